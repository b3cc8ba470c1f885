//! Compiles every file of `providers/` in.

fn main() -> std::io::Result<()> {
    embed::toml_files("providers")
}
