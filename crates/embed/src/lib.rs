//! For build scripts: compiles a folder of TOML files in, so that a new one is a new file and nothing else.
#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script where it is by the environment"
)]

use std::path::Path;
use std::{env, fs, io};

/// Writes `$OUT_DIR/FOLDER.rs`, a slice of `(name, text)` of every `*.toml` in the crate's folder, in the order of their
/// names; to be read with `include!`.
pub fn toml_files(folder: &str) -> io::Result<()> {
    let root = env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?;
    let path = Path::new(&root).join(folder);
    println!("cargo::rerun-if-changed={}", path.display());
    let mut files: Vec<_> = fs::read_dir(&path)?
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        table += &format!("({name:?}, include_str!({file:?})),\n");
    }
    table += "]";
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join(format!("{folder}.rs")), table)
}
