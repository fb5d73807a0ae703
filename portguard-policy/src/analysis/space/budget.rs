//! How much work cutting a space may take.

use crate::compile::CompileError;
use thiserror::Error;

/// Why a space cannot be cut.
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

/// Steps that cutting may take, before it is given up.
#[derive(Clone, Copy, Debug)]
pub struct Budget(pub usize);

impl Budget {
    /// Steps that stand for a cut, beside those for the size of its sets.
    pub(super) const CUT: usize = 50;
    /// Steps that stand for the memory of a region more.
    pub(super) const REGION: usize = 2000;

    /// A part of the budget, not more than is left.
    #[must_use]
    pub fn part(&self, steps: usize) -> Self {
        Self(self.0.min(steps))
    }

    pub(super) fn take(&mut self, steps: usize) -> Result<(), SpaceError> {
        self.0 = self.0.checked_sub(steps).ok_or(SpaceError::TooComplex)?;
        Ok(())
    }
}
