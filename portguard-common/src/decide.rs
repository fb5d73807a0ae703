//! The one function that decides, over the image of a compiled policy.
//!
//! Every loop has a constant bound and every table access may fail: a page that is missing (which no
//! image from the compiler lacks) ends the decision without a verdict, and the caller falls back to
//! the kernel's own rule. That never grants anything.

use crate::image::{Header, Image, NO_RULE, PORTS_PER_PAGE, Page, RuleWord, VECTOR_WORDS};
use crate::{Request, VECTORS_PER_PAGE, Verdict, WORDS_PER_MASK};

/// First page of TCP's port table, fixed so that [`is_protected`] needs no header.
pub const PORT_TABLE_START: u32 = 1;

/// A verdict and the rule it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Number of the deciding rule in file order, or [`NO_RULE`] for the default.
    pub rule: u16,
    /// Whether the policy wants this decision reported.
    pub report: bool,
}

/// Whether `port` lies in the policy's `protect`; where it does not, nothing is decided.
///
/// Every protocol's table marks the same ports as protected, so TCP's answers for all.
#[inline(always)]
#[must_use]
pub fn is_protected<I: Image + ?Sized>(image: &I, port: u16) -> bool {
    match image.page(PORT_TABLE_START + port as u32 / PORTS_PER_PAGE as u32) {
        Some(page) => page.port_class(port) != 0,
        None => false,
    }
}

/// Decides a bind of a protected port: the first rule that matches, else the default.
///
/// `None` means that the image lacks a page, which is a fault of its writer.
#[inline(always)]
#[must_use]
pub fn decide<I: Image + ?Sized>(
    image: &I,
    header: &Header<'_>,
    request: &Request,
) -> Option<Decision> {
    let ports = port_vector(image, header, request)?;
    let real = user_vector(image, header, request.uid)?;
    let effective = if request.uid == request.euid {
        real
    } else {
        user_vector(image, header, request.euid)?
    };
    let cgroups = vector(image, header.cgroup_vectors(), request.cgroup_class)?;
    let denies = vector(image, header.user_vectors(), header.deny_vector() as u32)?;

    // Only words in which every dimension has a rule left are looked at.
    let mut summary = ports.summary() & (real.summary() | effective.summary()) & cgroups.summary();
    for _ in 0..WORDS_PER_MASK {
        if summary == 0 {
            break;
        }
        let at = summary.trailing_zeros();
        summary &= summary - 1;
        let (r, e) = (real.mask(at), effective.mask(at));
        // An `allow` or `kernel` rule needs both uids in its set, a `deny` rule takes either: a setuid
        // binary neither inherits a grant nor slips past a denial.
        let users = (r & e) | ((r ^ e) & denies.mask(at));
        let hits = ports.mask(at) & users & cgroups.mask(at);
        if hits != 0 {
            let rule = (at & 63) * 64 + hits.trailing_zeros();
            let word = image.page(header.rule_page() as u32)?.rule(rule);
            return Some(Decision::new(word, rule as u16));
        }
    }
    Some(Decision::new(
        RuleWord(header.default_word() as u8),
        NO_RULE,
    ))
}

impl Decision {
    #[inline(always)]
    const fn new(word: RuleWord, rule: u16) -> Self {
        Self {
            verdict: word.verdict(),
            rule,
            report: word.report(),
        }
    }
}

/// A vector of rules: where it begins on its page.
#[derive(Clone, Copy)]
struct Vector<'a> {
    page: &'a Page,
    start: u32,
}

impl Vector<'_> {
    #[inline(always)]
    const fn summary(&self) -> u64 {
        self.page.word(self.start as usize)
    }

    #[inline(always)]
    const fn mask(&self, at: u32) -> u64 {
        self.page.word((self.start + 1 + at) as usize)
    }
}

#[inline(always)]
fn vector<I: Image + ?Sized>(image: &I, first_page: u64, class: u32) -> Option<Vector<'_>> {
    let page = image.page(first_page as u32 + class / VECTORS_PER_PAGE as u32)?;
    let start = class % VECTORS_PER_PAGE as u32 * VECTOR_WORDS as u32;
    Some(Vector { page, start })
}

#[inline(always)]
fn port_vector<'a, I: Image + ?Sized>(
    image: &'a I,
    header: &Header<'_>,
    request: &Request,
) -> Option<Vector<'a>> {
    let table = header.port_table(request.protocol) as u32;
    let class = image
        .page(table + request.port as u32 / PORTS_PER_PAGE as u32)?
        .port_class(request.port);
    vector(image, header.port_vectors(), class)
}

#[inline(always)]
fn user_vector<'a, I: Image + ?Sized>(
    image: &'a I,
    header: &Header<'_>,
    uid: u32,
) -> Option<Vector<'a>> {
    let first = header.user_pages() as u32;
    let count = header.user_page_count() as u32;
    let at = if count == 1 {
        0
    } else {
        last_not_above(image.page(first - 1)?, count, uid)
    };
    let len = if at + 1 == count {
        header.user_last_len() as u32
    } else {
        512
    };
    let page = image.page(first + at)?;
    let class = page.word(last_not_above(page, len, uid) as usize) as u32;
    vector(image, header.user_vectors(), class)
}

/// Index of the last of the first `len` words whose high half is not above `uid`.
///
/// Word 0 is never above. The choice at each step is arithmetic, not a branch: the verifier walks one
/// path instead of 2^9.
#[inline(always)]
fn last_not_above(page: &Page, len: u32, uid: u32) -> u32 {
    let mut base = 0u32;
    let mut size = len;
    for _ in 0..9 {
        if size <= 1 {
            break;
        }
        let half = size / 2;
        let start = page.word((base + half) as usize) >> 32;
        let above = (uid as u64).wrapping_sub(start) >> 63;
        base += half & (above as u32).wrapping_sub(1);
        size -= half;
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_the_interval() {
        for len in [1, 2, 3, 5, 8, 511, 512] {
            let mut page = Page::ZERO;
            for i in 0..len {
                page.set(i, (i as u64 * 10) << 32).expect("within the page");
            }
            for uid in 0..len as u32 * 10 + 5 {
                let want = (uid / 10).min(len as u32 - 1);
                assert_eq!(
                    last_not_above(&page, len as u32, uid),
                    want,
                    "len {len}, uid {uid}"
                );
            }
            assert_eq!(last_not_above(&page, len as u32, u32::MAX), len as u32 - 1);
        }
    }

    #[test]
    fn an_image_without_pages_decides_nothing() {
        let image: [Page; 1] = [Page::ZERO];
        let request = Request {
            port: 80,
            protocol: crate::Protocol::Tcp,
            uid: 0,
            euid: 0,
            cgroup_class: 0,
        };
        assert!(!is_protected(&image[..], 80));
        let far = {
            let mut page = Page::ZERO;
            page.set_port_table(crate::Protocol::Tcp, 7);
            page
        };
        assert_eq!(decide(&image[..], &Header(&far), &request), None);
    }
}
