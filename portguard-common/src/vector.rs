//! Vectors of rules, where they are in an image.

use crate::CLASSES_PER_PAGE;
use crate::image::{Image, Page, VECTOR_WORDS};

/// A vector of rules: where it begins on its page.
#[derive(Clone, Copy)]
pub struct Vector<'a> {
    page: &'a Page,
    start: u32,
}

impl<'a> Vector<'a> {
    /// The vector that begins at this word of a page.
    #[inline(always)]
    #[must_use]
    pub const fn at(page: &'a Page, start: u32) -> Self {
        Self { page, start }
    }

    /// The same vector, which to the verifier is no copy of another.
    #[inline(always)]
    pub(crate) fn unlinked<I: Image + ?Sized>(self) -> Self {
        Self::at(self.page, I::opaque(self.start))
    }

    /// Word `i` of the vector, its summary the first.
    #[inline(always)]
    pub(crate) const fn word(&self, i: usize) -> u64 {
        self.page.word(self.start as usize + i)
    }

    /// The bits of its words that are not zero.
    #[inline(always)]
    pub(crate) const fn summary(&self) -> u64 {
        self.page.word(self.start as usize)
    }

    /// Word `at` of its mask.
    #[inline(always)]
    pub(crate) const fn mask(&self, at: u32) -> u64 {
        self.page.word((self.start + 1 + at) as usize)
    }
}

/// The vector of a class, in the run that begins on `first_page`.
#[inline(always)]
pub(crate) fn vector<I: Image + ?Sized>(
    image: &I,
    first_page: u64,
    class: u32,
) -> Option<Vector<'_>> {
    let page = image.page(first_page as u32 + class / CLASSES_PER_PAGE)?;
    let start = class % CLASSES_PER_PAGE * VECTOR_WORDS as u32;
    Some(Vector::at(page, start))
}
