//! The modules of a crate and the arrows between their files.

use crate::graph::Arrow;
use crate::source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Modules by their path from the root of the crate, which is empty.
pub(crate) struct Tree {
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    /// The file, relative to the source folder.
    file: PathBuf,
    source: Source,
}

impl Tree {
    /// Reads the modules below a root file.
    pub(crate) fn read(folder: &Path, root: &str) -> Self {
        let mut tree = Self {
            modules: BTreeMap::new(),
        };
        tree.add(folder, Vec::new(), PathBuf::from(root));
        tree
    }

    fn add(&mut self, folder: &Path, path: Vec<String>, file: PathBuf) {
        let full = folder.join(&file);
        let text = std::fs::read_to_string(&full)
            .unwrap_or_else(|error| panic!("{}: {error}", full.display()));
        let source = Source::parse(&text);
        // Modules of a.rs lie in a/, those of mod.rs and of the roots beside it.
        let stem = file.with_extension("");
        let is_folder = stem.file_name().is_some_and(|name| name == "mod") || path.is_empty();
        let below = if is_folder {
            file.parent().unwrap_or(Path::new("")).to_path_buf()
        } else {
            stem
        };
        let mut file = file;
        for name in source.modules() {
            let child = [path.clone(), vec![name.clone()]].concat();
            let single = below.join(format!("{name}.rs"));
            let folder_file = below.join(&name).join("mod.rs");
            if folder.join(&single).is_file() {
                self.add(folder, child, single);
            } else if folder.join(&folder_file).is_file() {
                self.add(folder, child, folder_file);
            } else {
                continue;
            }
            if !is_folder {
                // The parent a.rs counts as a/mod.rs.
                file = below.join("mod.rs");
            }
        }
        self.modules.insert(path, Module { file, source });
    }

    /// The arrows from file to file.
    pub(crate) fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (own, module) in &self.modules {
            let children = self.children(own);
            let starts: Vec<&str> = ["crate", "super", "self"]
                .into_iter()
                .chain(children.iter().map(String::as_str))
                .collect();
            let imported = module
                .source
                .uses()
                .iter()
                .filter(|import| !import.exported);
            let imported = imported.map(|import| import.path.clone());
            for path in imported.chain(module.source.paths(&starts)) {
                let Some(absolute) = self.absolute(own, &path) else {
                    continue;
                };
                let target = self.defining(&absolute, 0);
                if target != *own
                    && let Some(to) = self.modules.get(&target)
                {
                    arrows.push(Arrow {
                        from: module.file.clone(),
                        to: to.file.clone(),
                        path: path.join("::"),
                    });
                }
            }
        }
        arrows
    }

    fn children(&self, of: &[String]) -> Vec<String> {
        let is_child = |path: &&Vec<String>| path.len() == of.len() + 1 && path.starts_with(of);
        let paths = self.modules.keys().filter(is_child);
        paths.filter_map(|path| path.last().cloned()).collect()
    }

    /// A path from the root of the crate; None for one into another crate.
    fn absolute(&self, own: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut base = own.to_vec();
        let mut rest = path.iter().peekable();
        let first = rest.peek()?.as_str();
        match first {
            "crate" => {
                base.clear();
                rest.next();
            }
            "self" => {
                rest.next();
            }
            "super" => {
                while rest.next_if(|part| *part == "super").is_some() {
                    base.pop()?;
                }
            }
            child if self.children(own).iter().any(|name| name == child) => {}
            _ => return None,
        }
        base.extend(rest.cloned());
        Some(base)
    }

    /// The module whose file defines what a path names, through re-exports.
    fn defining(&self, path: &[String], depth: usize) -> Vec<String> {
        let mut at = path.len();
        while !self.modules.contains_key(&path[..at]) {
            at -= 1;
        }
        let module = path[..at].to_vec();
        let Some(name) = path.get(at) else {
            return module;
        };
        let Some(source) = self.modules.get(&module).map(|module| &module.source) else {
            return module;
        };
        // A re-export can name itself through another.
        if depth > 8 || source.defines(name) {
            return module;
        }
        for export in source.uses() {
            let is_glob = export.path.last().is_some_and(|last| last == "*");
            if export.name != *name && !is_glob {
                continue;
            }
            let Some(mut target) = self.absolute(&module, &export.path) else {
                continue;
            };
            if is_glob {
                target.pop();
                target.push(name.clone());
            }
            target.extend(path.get(at + 1..).unwrap_or_default().iter().cloned());
            let found = self.defining(&target, depth + 1);
            let defined = self.modules.get(&found);
            if !is_glob || defined.is_some_and(|module| module.source.defines(name)) {
                return found;
            }
        }
        module
    }
}
