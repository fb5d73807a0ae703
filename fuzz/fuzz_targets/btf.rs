//! BTF bytes -> offsets: no panic, and no hang either, whatever types refer to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portguard::kernel::{Btf, Offsets};

fuzz_target!(|bytes: &[u8]| {
    let Ok(btf) = Btf::parse(bytes.to_vec()) else {
        return;
    };
    if let Ok(offsets) = Offsets::from_btf(&btf) {
        assert!(offsets.iter().count() > 0, "offsets of nothing");
    }
    // Short names, which an input hits by chance.
    let _ = btf.has_function("f");
    for path in ["", "a", "a.b", "b.a.b"] {
        let _ = btf.offset("s", path);
        let _ = btf.offset("", path);
    }
});
