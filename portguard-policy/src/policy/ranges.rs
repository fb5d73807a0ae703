//! Sets of numbers as sorted lists of ranges.

use std::ops::RangeInclusive;

/// The numbers of a range.
pub trait Number: Copy + Ord {
    fn next(self) -> Option<Self>;
    fn previous(self) -> Option<Self>;
}

impl Number for u16 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl Number for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
    fn previous(self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// The ranges in order, adjacent and overlapping ones united.
pub fn merged<T: Number>(ranges: &[RangeInclusive<T>]) -> Vec<RangeInclusive<T>> {
    let mut sorted: Vec<_> = ranges
        .iter()
        .map(|range| (*range.start(), *range.end()))
        .collect();
    sorted.sort_unstable();
    let mut out: Vec<RangeInclusive<T>> = Vec::new();
    for (start, end) in sorted {
        match out.last_mut() {
            Some(last) if last.end().next().is_none_or(|next| start <= next) => {
                *last = *last.start()..=end.max(*last.end());
            }
            _ => out.push(start..=end),
        }
    }
    out
}

/// The ranges as the kernel's settings write them: `80,8000-8010`.
pub fn text<T: Number + std::fmt::Display>(ranges: &[RangeInclusive<T>]) -> String {
    let each = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        });
    each.collect::<Vec<_>>().join(",")
}

/// The part of `a` outside `b`, both merged.
pub fn outside<T: Number>(
    a: &[RangeInclusive<T>],
    b: &[RangeInclusive<T>],
) -> Vec<RangeInclusive<T>> {
    let mut out = Vec::new();
    for range in a {
        let mut start = Some(*range.start());
        // Merged ranges are in order: the search skips those that end before this one.
        let first = b.partition_point(|cut| cut.end() < range.start());
        for cut in b[first..]
            .iter()
            .take_while(|cut| cut.start() <= range.end())
        {
            if let (Some(from), Some(to)) = (start, cut.start().previous())
                && from <= to
            {
                out.push(from..=to);
            }
            start = cut.end().next();
        }
        if let Some(from) = start
            && from <= *range.end()
        {
            out.push(from..=*range.end());
        }
    }
    out
}
