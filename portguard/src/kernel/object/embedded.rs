//! The eBPF object in this binary: its bytes, its digest, and the maps that it declares.

use crate::kernel::error::KernelError;
use crate::kernel::maps::map_set::{NAMES, Shape};
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
        let map = object.maps.get(name)?;
        Some((name, Shape::declared(map)))
    });
    Ok(declared.collect())
}
