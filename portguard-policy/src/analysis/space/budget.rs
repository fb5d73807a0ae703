//! The limit of work for splitting a space.

use crate::compile::CompileError;
use thiserror::Error;

/// Why a space cannot be split.
#[derive(Debug, Error)]
pub enum SpaceError {
    /// A policy cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The rules overlap in too many ways.
    #[error(
        "the rules overlap in too many ways to tell all their regions apart: use fewer rules that share ports and cross each other in users, groups, cgroups and addresses"
    )]
    TooComplex,
}

/// Steps left before splitting fails.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub usize);

impl Budget {
    /// Steps for a cut, in addition to those for the size of its sets.
    pub(super) const CUT: usize = 50;
    /// Steps for the memory of a new region.
    pub(super) const REGION: usize = 2000;

    /// A part of the budget, no more than is left.
    #[must_use]
    pub fn part(&self, steps: usize) -> Self {
        Self(self.0.min(steps))
    }

    pub(super) fn take(&mut self, steps: usize) -> Result<(), SpaceError> {
        self.0 = self.0.checked_sub(steps).ok_or(SpaceError::TooComplex)?;
        Ok(())
    }
}
