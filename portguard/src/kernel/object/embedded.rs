//! The eBPF object in this binary: its bytes, its digest, and the maps that it declares.

use crate::kernel::error::KernelError;
use crate::kernel::maps::map_set::{NAMES, Shape, name_in_object};
use crate::kernel::preflight::condition::{Condition, Severity};
use aya_obj::Object;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// The eBPF object, as `cargo xtask build` compiled it.
pub const fn object() -> Result<&'static [u8], KernelError> {
    #[cfg(ebpf_object)]
    return Ok(aya::include_bytes_aligned!(env!("PORTGUARD_EBPF_OBJECT")));
    #[cfg(not(ebpf_object))]
    return Err(KernelError::NoObject);
}

/// Whether this binary has the eBPF programs, as a condition of `doctor`.
#[must_use]
pub fn object_condition(object: &Result<&[u8], KernelError>) -> Condition {
    let name = "eBPF programs";
    match object {
        Ok(_) => Condition {
            name,
            severity: Severity::Good,
            found: "built in".into(),
            fix: None,
        },
        Err(_) => Condition {
            name,
            severity: Severity::Missing,
            found: "this build has none".into(),
            fix: Some("build portguard with `cargo xtask build`".into()),
        },
    }
}

/// The digest of this version's object, as words.
pub(in crate::kernel) fn object_digest() -> [u64; 4] {
    let digest = Sha256::digest(object().unwrap_or_default());
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// The shapes of the maps that this version's object declares.
pub(in crate::kernel) fn declared_shapes() -> Result<BTreeMap<&'static str, Shape>, KernelError> {
    let object =
        Object::parse(object()?).map_err(|error| KernelError::Object(Box::new(error.into())))?;
    let declared = NAMES.into_iter().filter_map(|name| {
        let map = object.maps.get(name_in_object(name))?;
        Some((name, Shape::declared(map)))
    });
    Ok(declared.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_condition_is_missing_without_an_object() {
        let condition = object_condition(&Err(KernelError::NoObject));
        assert_eq!(condition.severity, Severity::Missing);
        assert_eq!(condition.found, "this build has none");
        assert!(
            condition
                .fix
                .is_some_and(|fix| fix.contains("cargo xtask build"))
        );
        let condition = object_condition(&Ok(&[]));
        assert_eq!(condition.severity, Severity::Good);
        assert_eq!(condition.fix, None);
    }

    #[cfg(not(ebpf_object))]
    #[test]
    fn object_is_an_error_in_a_build_without_it() {
        assert!(matches!(object(), Err(KernelError::NoObject)));
    }
}
