//! Compiles every file of `fixtures/` in.

fn main() -> std::io::Result<()> {
    embed::toml_files("fixtures")
}
