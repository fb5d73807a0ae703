//! The map that holds a policy's image, written once.

use crate::kernel::bpf_sys;
use crate::kernel::error::{KernelError, map_error, slot_error};
use crate::kernel::maps::inner_maps::id_of;
use crate::kernel::maps::map_insert::insert;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::slots::Slot;
use crate::kernel::maps::wire::Wire;
use crate::status::{Description, RuleHits};
use aya::maps::{Array, ArrayOfMaps, MapData};
use portguard_common::{Header, Memo, PAGE_WORDS, Page, hits_pages, hits_slot};
use portguard_policy::compile::Tables;
use std::collections::HashMap;
use zerocopy::IntoBytes as _;

/// The map of the slots.
const POLICY: &str = "POLICY";

/// `BPF_F_INNER_MAP` of `include/uapi/linux/bpf.h` (Linux 5.10).
const BPF_F_INNER_MAP: u32 = 1 << 12;

/// An image in its map, with its description.
pub(in crate::kernel) struct KernelImage {
    slot: Slot,
    pages: Array<MapData, Wire<Page>>,
    generation: u16,
    hits_page: u32,
    description: Description,
}

impl KernelImage {
    /// Writes the image of `tables`, under the number that its description has; it is to come into this slot.
    pub(in crate::kernel) fn create(
        tables: &Tables,
        description: Description,
        slot: Slot,
    ) -> Result<Self, KernelError> {
        let generation = description.policy.generation;
        let text = serde_json::to_vec(&description).unwrap_or_default();
        let mut pages = tables.pages.clone();
        let first = pages.len();
        pages.extend(text.chunks(size_of::<Page>()).map(page_of));
        if let Some(header) = pages.first_mut() {
            *header = header.with_generation(generation);
            header.set_description_page(first as u64);
            header.set_description_len(text.len() as u64);
        }
        let count = u32::try_from(pages.len()).unwrap_or(u32::MAX);
        let mut map: Array<MapData, Wire<Page>> =
            Array::create(count, BPF_F_INNER_MAP).map_err(map_error(POLICY))?;
        for (number, page) in (0..).zip(&pages) {
            map.set(number, Wire(*page), 0).map_err(map_error(POLICY))?;
        }
        let hits_page = pages.first().map_or(0, |page| Header(page).hits_page());
        Ok(Self {
            slot,
            pages: map,
            generation,
            hits_page: hits_page as u32,
            description,
        })
    }

    /// The image that is in force; `None` where there is none of this version.
    pub(in crate::kernel) fn in_force(maps: &Maps) -> Result<Option<Self>, KernelError> {
        let Some(slot) = Slot::in_force(maps)? else {
            return Ok(None);
        };
        let Some(pages) = maps.inner(POLICY, slot.index())? else {
            return Ok(None);
        };
        let pages: Array<MapData, Wire<Page>> = pages.try_into().map_err(map_error(POLICY))?;
        let Wire(header) = pages.get(&0, 0).map_err(map_error(POLICY))?;
        let header = Header(&header);
        let mut text = Vec::new();
        for page in 0..header.description_len().div_ceil(size_of::<Page>() as u64) {
            let number = header.description_page() + page;
            let Wire(page) = pages.get(&(number as u32), 0).map_err(map_error(POLICY))?;
            text.extend_from_slice(page.as_bytes());
        }
        text.truncate(header.description_len() as usize);
        let Ok(description) = serde_json::from_slice(&text) else {
            return Ok(None);
        };
        Ok(Some(Self {
            slot,
            generation: header.generation() as u16,
            hits_page: header.hits_page() as u32,
            pages,
            description,
        }))
    }

    /// Pins it beside the maps, where they are pinned.
    pub(in crate::kernel) fn pin(&self, maps: &Maps) -> Result<(), KernelError> {
        maps.pin_inner(POLICY, &self.pages)
    }

    /// Removes the pins of every image but this.
    pub(in crate::kernel) fn unpin_others(&self, maps: &Maps) -> Result<(), KernelError> {
        maps.keep_inner(POLICY, &[id_of(POLICY, &self.pages)?]);
        Ok(())
    }

    /// Puts it and its memo in force by one write. Returns once no program uses the previous policy any more.
    pub(in crate::kernel) fn switch(
        &self,
        maps: &mut Maps,
        memo: &Memo,
    ) -> Result<(), KernelError> {
        self.slot.write(maps, memo, self.generation)?;
        self.put_into_slot(maps)?;
        self.slot.activate(maps)?;
        // Changes nothing but waits, as each write of a slot does, for all programs that began before
        // (`maybe_wait_bpf_programs`, 5.10 to 7.2).
        self.put_into_slot(maps)
    }

    fn put_into_slot(&self, maps: &mut Maps) -> Result<(), KernelError> {
        let mut images: ArrayOfMaps<_, Array<MapData, Wire<Page>>> = maps.table(POLICY)?;
        let index = self.slot.index();
        insert(POLICY, || images.set(index, &self.pages, 0))
    }

    /// Empties the slot of an image that is no longer in force, which gives its memory back.
    pub(in crate::kernel) fn leave_slot(&self, maps: &Maps) -> Result<(), KernelError> {
        bpf_sys::delete_slot(maps.fd(POLICY)?, self.slot.index()).map_err(slot_error(POLICY))
    }

    /// The number of the policy.
    pub(in crate::kernel) const fn generation(&self) -> u16 {
        self.generation
    }

    /// The description of the policy.
    pub(in crate::kernel) const fn description(&self) -> &Description {
        &self.description
    }

    /// Rules and default with their hits, including those carried over from earlier policies.
    pub(in crate::kernel) fn hits(&self, maps: &Maps) -> Result<Vec<RuleHits>, KernelError> {
        let rules = &self.description.rules;
        let pages = hits_pages(rules.len().saturating_sub(1)) as u32;
        let now = self.slot.read_hits(maps)?;
        let earlier = self.words(self.hits_page, pages)?;
        let hits = rules.iter().enumerate().map(|(number, rule)| {
            let slot = slot_of(number, rules.len());
            let count = |words: &[u64]| words.get(slot).copied().unwrap_or(0);
            RuleHits {
                hits: count(&now) + count(&earlier),
                ..rule.clone()
            }
        });
        Ok(hits.collect())
    }

    /// Carries over the hits of rules that keep their name and verdict.
    pub(in crate::kernel) fn carry(&mut self, before: &[RuleHits]) -> Result<(), KernelError> {
        let by_name: HashMap<_, u64> = before
            .iter()
            .map(|rule| ((&rule.name, &rule.verdict), rule.hits))
            .collect();
        let rules = &self.description.rules;
        let pages = hits_pages(rules.len().saturating_sub(1));
        let mut words = vec![0u64; pages * PAGE_WORDS];
        for (number, rule) in rules.iter().enumerate() {
            let known = by_name.get(&(&rule.name, &rule.verdict)).copied();
            if let Some(word) = words.get_mut(slot_of(number, rules.len())) {
                *word = known.unwrap_or(0);
            }
        }
        for (number, chunk) in (self.hits_page..).zip(words.chunks(PAGE_WORDS)) {
            let page = Wire(page_of(chunk.as_bytes()));
            self.pages.set(number, page, 0).map_err(map_error(POLICY))?;
        }
        Ok(())
    }

    fn words(&self, first: u32, pages: u32) -> Result<Vec<u64>, KernelError> {
        let mut words = Vec::new();
        for number in first..first + pages {
            let Wire(page) = self.pages.get(&number, 0).map_err(map_error(POLICY))?;
            words.extend((0..PAGE_WORDS).map(|at| page.word(at)));
        }
        Ok(words)
    }
}

/// The slot of the hits of the `number`th of `rules`, of which the default is the last.
fn slot_of(number: usize, rules: usize) -> usize {
    let rule = if number + 1 == rules {
        portguard_common::NO_RULE
    } else {
        number as u16
    };
    hits_slot(rule) as usize
}

/// A page of these bytes, padded with zeros.
fn page_of(bytes: &[u8]) -> Page {
    let mut page = Page::ZERO;
    for (at, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        // The index is within the page: no caller has more bytes than one.
        let _ = page.set(at, u64::from_ne_bytes(word));
    }
    page
}
