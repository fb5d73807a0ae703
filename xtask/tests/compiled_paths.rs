//! No source has the path of the checkout compiled in. cargo does not rebuild what is already built when it finds it in a
//! copy of the checkout, so such a path would lead back to the original.
#![expect(
    clippy::expect_used,
    reason = "a test ends where the sources cannot be read"
)]

use std::path::Path;

/// The sources of a folder that name the variable of the path at compile time.
fn offenders(folder: &Path, found: &mut Vec<String>) {
    // In two parts, since this file is searched too.
    let variable = ["env!(\"CARGO", "_MANIFEST_DIR\")"].concat();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                offenders(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            if text.contains(&variable) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn sources_have_no_path_of_the_checkout_compiled_in() {
    let mut found = Vec::new();
    // cargo runs tests in the directory of their package.
    offenders(Path::new(".."), &mut found);
    assert!(
        found.is_empty(),
        "tests run in the directory of their package, build scripts read CARGO_MANIFEST_DIR by std::env::var_os: {}",
        found.join(", ")
    );
}
