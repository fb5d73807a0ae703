//! The policy directory of a host, in two layers: files of packages, and those of the administrator, which replace
//! them by name, as unit files of systemd do. The policy that the packages of portguard ship stands in where there is no
//! other.

use super::directory;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The directories that a policy is read from where no path is given: that of packages, and that of the
/// administrator. Given together, and alone, they are one directory.
pub const DEFAULT_PATHS: [&str; 2] = ["/usr/lib/portguard/policies", "/etc/portguard/policies"];

/// The vendor's file that is left out where there is any other: it only reports, and merged with the first policy of an
/// administrator it would keep that from being enforced.
const STAND_IN: &str = "default.yaml";

/// The two directories, where the paths are these.
pub(super) fn of(paths: &[PathBuf]) -> Option<[&Path; 2]> {
    match paths {
        [vendor, admin]
            if [vendor, admin].map(PathBuf::as_path) == DEFAULT_PATHS.map(Path::new) =>
        {
            Some([vendor, admin])
        }
        _ => None,
    }
}

/// The files of both directories by their names. A file of the administrator takes the place of the vendor's of that
/// name. A link to `/dev/null`, and an empty file in the place of one of the vendor's, is no file at all. The vendor's
/// `default.yaml` counts only where it is alone.
///
/// # Errors
/// Where a directory cannot be listed, or neither has a file.
pub(super) fn files([vendor, admin]: [&Path; 2]) -> Result<Vec<PathBuf>, String> {
    let mut found: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    let mut seen = false;
    for layer in [vendor, admin] {
        match fs::metadata(layer) {
            // Most hosts have only one of the two.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            _ => {}
        }
        for name in
            directory::names(layer).map_err(|error| format!("{}: {error}", layer.display()))?
        {
            seen = true;
            let path = layer.join(&name);
            let masked = found.remove(&name).is_some();
            if !is_mask(&path, masked) {
                found.insert(name, path);
            }
        }
    }
    let stand_in = vendor.join(STAND_IN);
    if found.len() > 1 {
        found.retain(|_, path| *path != stand_in);
    }
    if seen {
        return Ok(found.into_values().collect());
    }
    Err(format!(
        "no policy files (*.yaml, *.yml) in {} or {}",
        admin.display(),
        vendor.display()
    ))
}

/// Whether a file only takes that of a lower layer away: `/dev/null`, or an empty one where there is something to
/// take away.
fn is_mask(path: &Path, masks: bool) -> bool {
    let null = fs::metadata("/dev/null").map(|null| null.rdev());
    fs::metadata(path).is_ok_and(|file| {
        let kind = file.file_type();
        kind.is_char_device() && null.is_ok_and(|null| file.rdev() == null)
            || masks && kind.is_file() && file.len() == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// The paths of the merged directory, without that of the test.
    fn listed(
        vendor: &[&str],
        admin: &[&str],
        more: impl Fn(&Path),
    ) -> Result<Vec<String>, String> {
        let root = tempfile::tempdir().expect("a directory");
        let dirs = ["usr", "etc"].map(|name| root.path().join(name));
        for (directory, names) in dirs.iter().zip([vendor, admin]) {
            if !names.is_empty() {
                fs::create_dir(directory).expect("a directory");
            }
            for name in names {
                fs::write(directory.join(name), "version: 1\n").expect("a file");
            }
        }
        more(root.path());
        let short = |text: String| text.replace(&format!("{}/", root.path().display()), "");
        let found = files([&dirs[0], &dirs[1]]).map_err(short)?;
        Ok(found
            .into_iter()
            .map(|path| short(path.display().to_string()))
            .collect())
    }

    #[test]
    fn admin_file_masks_vendor_file_by_name() {
        let nothing = |_: &Path| ();
        let both = listed(
            &["10.yaml", "30.yaml"],
            &["20.yml", "30.yaml", "no.txt"],
            nothing,
        );
        assert_eq!(
            both.unwrap_or_default(),
            ["usr/10.yaml", "etc/20.yml", "etc/30.yaml"]
        );
        let vendor = listed(&["10.yaml"], &[], nothing);
        assert_eq!(vendor.unwrap_or_default(), ["usr/10.yaml"]);
        let admin = listed(&[], &["10.yaml"], nothing);
        assert_eq!(admin.unwrap_or_default(), ["etc/10.yaml"]);
    }

    #[test]
    fn link_to_null_and_empty_file_mask_vendor_file() {
        let masks = |root: &Path| {
            symlink("/dev/null", root.join("etc/10.yaml")).expect("a link");
            symlink("/dev/null", root.join("etc/15.yaml")).expect("a link");
            fs::write(root.join("etc/20.yaml"), "").expect("a file");
            fs::write(root.join("etc/25.yaml"), "").expect("a file");
        };
        let found = listed(&["10.yaml", "20.yaml", "30.yaml"], &["40.yaml"], masks);
        let expected = ["etc/25.yaml", "usr/30.yaml", "etc/40.yaml"];
        assert_eq!(
            found.unwrap_or_default(),
            expected,
            "an empty file that masks nothing is an error"
        );
    }

    #[test]
    fn vendor_default_counts_only_where_it_is_alone() {
        let found = |vendor: &[&str], admin: &[&str]| {
            listed(vendor, admin, |_| ()).expect("files").join(" ")
        };
        assert_eq!(found(&["default.yaml"], &[]), "usr/default.yaml");
        assert_eq!(found(&["default.yaml"], &["a.yaml"]), "etc/a.yaml");
        assert_eq!(found(&["default.yaml"], &["x.yaml"]), "etc/x.yaml");
        let of_packages = found(&["default.yaml", "nginx.yaml"], &[]);
        assert_eq!(of_packages, "usr/nginx.yaml");
        let of_admin = found(&[], &["default.yaml", "web.yaml"]);
        assert_eq!(of_admin, "etc/default.yaml etc/web.yaml");
        let replaced = found(&["default.yaml"], &["default.yaml", "web.yaml"]);
        assert_eq!(replaced, "etc/default.yaml etc/web.yaml");
        let mask = |root: &Path| symlink("/dev/null", root.join("etc/web.yaml")).expect("a link");
        let masked = listed(&["default.yaml", "web.yaml"], &["z.txt"], mask);
        assert_eq!(masked.unwrap_or_default(), ["usr/default.yaml"]);
    }

    #[test]
    fn layers_without_a_file_are_an_error() {
        let expected = "no policy files (*.yaml, *.yml) in etc or usr";
        assert_eq!(listed(&[], &[], |_| ()), Err(expected.to_owned()));
        let file = |root: &Path| fs::write(root.join("etc"), "").expect("a file");
        let error = listed(&["a.yaml"], &[], file).expect_err("not a directory");
        assert!(error.starts_with("etc: cannot list directory: "), "{error}");
    }

    #[test]
    fn layers_are_the_default_paths_alone() {
        let [vendor, admin] = DEFAULT_PATHS.map(PathBuf::from);
        assert!(of(&[vendor.clone(), admin.clone()]).is_some());
        assert!(of(std::slice::from_ref(&admin)).is_none());
        assert!(of(&[admin.clone(), vendor.clone()]).is_none());
        assert!(of(&[vendor, admin.clone(), admin]).is_none());
    }
}
