//! The verb `docs`: the documents as a site, made by mdBook.
//!
//! The book has the files at the paths that they have in the checkout, so every link between them holds in both.

use crate::{repo, shell, tools};
use anyhow::{Context, Result};
use std::fs;
use std::process::ExitCode;

/// The chapters, by paths from the top of the checkout.
const SUMMARY: &str = "docs/SUMMARY.md";

/// What documents link to, beside each other.
const LINKED: [&str; 6] = ["*.md", "*.yaml", "*.yml", "dist", "LICENSE-*", "docs"];

/// The verb.
pub(crate) fn run() -> Result<ExitCode> {
    let mdbook = tools::mdbook()?;
    let book = repo::path("target/dist/work/book");
    let _ = fs::remove_dir_all(&book);
    let mut list = shell::command("git");
    let list = shell::query(list.arg("ls-files").args(LINKED))?;
    for path in list.lines() {
        let to = book.join("src").join(path);
        fs::create_dir_all(to.parent().unwrap_or(&book))?;
        fs::copy(repo::path(path), &to).with_context(|| format!("copying {path}"))?;
    }
    fs::copy(repo::path(SUMMARY), book.join("src/SUMMARY.md"))?;
    fs::copy(repo::path("docs/book.toml"), book.join("book.toml"))?;
    let into = repo::path("target/dist/site");
    let mut build = shell::command(mdbook);
    shell::run(build.arg("build").arg("--dest-dir").arg(&into).arg(&book))?;
    println!("{}", into.join("index.html").display());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// The documents in the checkout.
    fn documents() -> Vec<PathBuf> {
        let mut list = shell::command("git");
        let list = shell::query(list.args(["ls-files", "*.md"])).expect("a list");
        list.lines().map(PathBuf::from).collect()
    }

    /// The targets of links to files, without their anchors, outside code blocks.
    fn links(text: &str) -> Vec<String> {
        let mut code = false;
        let mut found = Vec::new();
        for line in text.lines() {
            code ^= line.trim_start().starts_with("```");
            if code {
                continue;
            }
            for part in line.split("](").skip(1) {
                let Some((target, _)) = part.split_once(')') else {
                    continue;
                };
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") && !file.contains(' ') {
                    found.push(file.to_owned());
                }
            }
        }
        found
    }

    #[test]
    fn links_between_documents_lead_somewhere() {
        let mut count = 0;
        for document in documents()
            .iter()
            .filter(|path| *path != Path::new(SUMMARY))
        {
            let text = fs::read_to_string(repo::root().join(document)).expect("a document");
            for link in links(&text) {
                let target = repo::root().join(document).with_file_name(&link);
                assert!(target.exists(), "{}: {link}", document.display());
                count += 1;
            }
        }
        assert!(count > 50, "{count} links");
    }

    #[test]
    fn summary_has_every_document_for_users() {
        let summary = fs::read_to_string(repo::path(SUMMARY)).expect("the summary");
        let chapters = links(&summary);
        for chapter in &chapters {
            assert!(repo::path(chapter).is_file(), "{chapter}");
        }
        for document in documents() {
            let name = document.to_string_lossy();
            let is_chapter = name.starts_with("docs/") && name != SUMMARY;
            assert!(
                !is_chapter || chapters.iter().any(|chapter| *chapter == name),
                "{name}"
            );
        }
    }
}
