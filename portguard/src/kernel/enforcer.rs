//! The facade of the kernel side: starts the programs, checks that they run, repairs and detaches them.
//!
//! Programs are attached while no policy is installed, when they let everything pass, and one write of one map slot
//! puts the policy in force. Pinned programs of an earlier daemon stay until the new ones are in place.

use crate::kernel::error::KernelError;
use crate::kernel::maps::aggregates::{Aggregated, Aggregates};
use crate::kernel::maps::counters::Counts;
use crate::kernel::maps::map_set::Maps;
use crate::kernel::maps::policy_map::KernelImage;
use crate::kernel::maps::records::{EXECUTABLES, FaultLog, Records};
use crate::kernel::maps::stale_entries::remove_stale_entries;
use crate::kernel::object::attach::Programs;
use crate::kernel::object::embedded::object_digest;
use crate::kernel::object::hook::{Features, Hook, HookChoice, attached_programs};
use crate::kernel::pins::manifest::PinManifest;
use crate::kernel::pins::pin_directory::{self, Pins, UnusablePins};
use crate::kernel::pins::pin_paths::PINS;
use crate::kernel::preflight::environment::Environment;
use crate::status::{Description, ProgramCost, RuleHits};
use std::path::PathBuf;

/// Programs in the kernel, attached until this is dropped or, where they are pinned, until their pins are removed.
pub struct Enforcer {
    pub(super) maps: Maps,
    programs: Programs,
    fallback: Option<KernelError>,
    /// What was found in the pins at the start.
    notes: Vec<String>,
    /// The policy in force.
    pub(super) in_force: Option<KernelImage>,
    aggregates: Option<Aggregates>,
    pins: Option<Pins>,
    /// The directory in which new maps are to be pinned; `None` where the pinned maps are in use.
    stage: Option<PathBuf>,
}

impl Enforcer {
    /// Loads and attaches the programs by `choice` and checks that they run. Pinned programs of the same version that
    /// run are taken over. No decision changes before [`Enforcer::install`].
    pub fn start(
        environment: &Environment,
        choice: HookChoice,
        pins: Option<Pins>,
    ) -> Result<Self, KernelError> {
        let mut notes = Vec::new();
        let mut reuse = None;
        if let Some(pins) = &pins {
            match pins.check_maps() {
                Ok(()) => reuse = Some(pins.directory()),
                Err(UnusablePins::Missing) if pins.is_empty() => {}
                Err(UnusablePins::Missing) => {
                    notes.push("the pins of another version are replaced".to_owned());
                }
                Err(why) => notes.push(format!("the pins in {PINS} are not used: {why}")),
            }
        }
        let adopted = match &reuse {
            Some(directory) => Self::adopt(environment, choice, directory, &mut notes)?,
            None => None,
        };
        let mut enforcer = match adopted {
            Some(enforcer) => enforcer,
            None => Self::attach_by(environment, choice, reuse.as_deref())?,
        };
        if reuse.is_some() {
            enforcer.clear_leftovers()?;
        } else if let Some(pins) = &pins {
            enforcer.stage = Some(pins.stage()?);
        }
        enforcer.notes = notes;
        enforcer.pins = pins;
        Ok(enforcer)
    }

    /// Takes over pinned programs, where they are of this version and run.
    fn adopt(
        environment: &Environment,
        choice: HookChoice,
        directory: &std::path::Path,
        notes: &mut Vec<String>,
    ) -> Result<Option<Self>, KernelError> {
        let Some(manifest) = PinManifest::read(directory) else {
            notes.push(
                "the pins were left by an unfinished start: its programs are replaced".into(),
            );
            return Ok(None);
        };
        if manifest.object != object_digest() {
            notes.push("the pinned programs are from another version: they are replaced".into());
            return Ok(None);
        }
        if !choice.allows(manifest.hook) {
            return Ok(None);
        }
        let mismatches = manifest.mismatches(directory);
        if !mismatches.is_empty() {
            notes.extend(
                mismatches
                    .into_iter()
                    .map(|mismatch| format!("{mismatch}: restored")),
            );
            return Ok(None);
        }
        let maps = Maps::pinned(directory)?;
        let programs = Programs::adopted(
            environment,
            manifest.hook,
            manifest.features,
            manifest.programs,
        );
        if !programs.unresponsive_hooks(&maps)?.is_empty() {
            notes.push("the pinned programs do not run: they are replaced".into());
            return Ok(None);
        }
        notes.push(format!(
            "took over the pinned programs of pid {}",
            manifest.pid
        ));
        Ok(Some(Self::new(maps, programs)))
    }

    fn attach_by(
        environment: &Environment,
        choice: HookChoice,
        reuse: Option<&std::path::Path>,
    ) -> Result<Self, KernelError> {
        let attach = |hook| {
            let (maps, programs) = Programs::attach(environment, hook, reuse)?;
            Ok(Self::new(maps, programs))
        };
        match choice {
            HookChoice::Cgroup => attach(Hook::Cgroup),
            HookChoice::Lsm => attach(Hook::Lsm),
            HookChoice::Auto => attach(Hook::Lsm).or_else(|error: KernelError| {
                let mut enforcer = attach(Hook::Cgroup)?;
                enforcer.fallback = Some(error);
                Ok(enforcer)
            }),
        }
    }

    fn new(maps: Maps, programs: Programs) -> Self {
        Self {
            maps,
            programs,
            fallback: None,
            notes: Vec::new(),
            in_force: None,
            aggregates: None,
            pins: None,
            stage: None,
        }
    }

    /// Reads the policy that is in force, and removes the entries of a reload that was killed.
    fn clear_leftovers(&mut self) -> Result<(), KernelError> {
        self.in_force = KernelImage::in_force(&self.maps)?;
        self.remove_stale_entries()
    }

    /// Removes the entries of every policy but the one in force, whichever process wrote them.
    pub(super) fn remove_stale_entries(&mut self) -> Result<(), KernelError> {
        let keep = self.in_force.as_ref().map(KernelImage::generation);
        if let Some(image) = &self.in_force {
            image.unpin_others(&self.maps)?;
        }
        remove_stale_entries(&mut self.maps, keep)
    }

    /// Pins what is new, and removes every pin that is neither new nor taken over. Enforcement then outlives this
    /// process. Does nothing without pins.
    ///
    /// # Errors
    /// Where bpffs refuses; what was pinned before is still there then.
    pub fn pin(&mut self) -> Result<(), KernelError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        let before = pins.programs();
        if let Some(stage) = self.stage.take() {
            pin_directory::pin_maps(&stage, &self.maps)?;
            self.maps.set_pinned_in(&stage);
            pin_inner_maps(&self.maps, self.in_force.as_ref(), self.aggregates.as_ref())?;
            pin_directory::pin_programs(&stage, &mut self.programs)?;
            pins.take_stage(&stage)?;
            self.maps.set_pinned_in(&pins.directory());
        } else {
            pin_directory::pin_programs(&pins.directory(), &mut self.programs)?;
        }
        pins.sweep(attached_programs(self.programs.hook()))?;
        let now = pins.programs();
        let replaced = before.difference(&now).copied().collect();
        pin_directory::wait_for_unload(&replaced, || {
            self.programs.decide_alone(&self.maps, &replaced)
        });
        Ok(())
    }

    /// What is wrong with the programs and their pins; empty where nothing is.
    pub fn problems(&self) -> Result<Vec<String>, KernelError> {
        let mut problems = self.programs.problems(&self.maps)?;
        let Some(pins) = &self.pins else {
            return Ok(problems);
        };
        let directory = pins.directory();
        match PinManifest::read(&directory) {
            Some(manifest) => {
                let mismatches = manifest.mismatches(&directory);
                problems.extend(mismatches.iter().map(ToString::to_string));
            }
            None => problems.push(UnusablePins::Missing.to_string()),
        }
        problems.extend(pins.check_maps().err().map(|error| error.to_string()));
        problems.dedup();
        Ok(problems)
    }

    /// Attaches and pins whatever is missing.
    pub fn repair(&mut self, environment: &Environment) -> Result<(), KernelError> {
        if let Some(pins) = &self.pins {
            let directory = pins.directory();
            pins.restore_maps(&self.maps)?;
            pin_inner_maps(&self.maps, self.in_force.as_ref(), self.aggregates.as_ref())?;
            self.programs.attach_again(environment, Some(&directory))?;
            return self.pin();
        }
        self.programs.attach_again(environment, None)
    }

    /// Starts aggregation: equal decisions of a second become one event.
    pub fn start_aggregation(&mut self) -> Result<(), KernelError> {
        self.aggregates = Some(Aggregates::start(&mut self.maps)?);
        Ok(())
    }

    /// Ends the window of aggregation and starts another. Returns the events that stand for decisions not yet
    /// reported; nothing without aggregation.
    pub fn take_aggregates(&mut self) -> Result<Vec<Aggregated>, KernelError> {
        match &mut self.aggregates {
            Some(aggregates) => aggregates.take(&mut self.maps),
            None => Ok(Vec::new()),
        }
    }

    /// Stops aggregation. Returns what an earlier daemon had aggregated.
    pub fn stop_aggregation(&mut self) -> Result<Vec<Aggregated>, KernelError> {
        Aggregates::stop(&mut self.maps)
    }

    /// Reads all counters.
    pub fn counts(&self) -> Result<Counts, KernelError> {
        Counts::read(&self.maps)
    }

    /// What the programs cost; nothing where the kernel does not measure it, and of programs that were taken over.
    #[must_use]
    pub fn program_costs(&self) -> Vec<ProgramCost> {
        self.programs.costs()
    }

    /// The rules of the policy in force and the default, with their hits.
    pub fn hits(&self) -> Result<Vec<RuleHits>, KernelError> {
        match &self.in_force {
            Some(image) => image.hits(&self.maps),
            None => Ok(Vec::new()),
        }
    }

    /// The description of the policy in force.
    #[must_use]
    pub fn description(&self) -> Option<&Description> {
        self.in_force.as_ref().map(KernelImage::description)
    }

    /// The reading end of the ring buffer, of which there may be one.
    pub fn records(&self) -> Result<Records, KernelError> {
        Records::new(self.maps.owned("EVENTS")?, self.maps.owned(EXECUTABLES)?)
    }

    /// The log of the programs, for the `log` crate; `None` where it cannot be opened.
    pub fn fault_log(&mut self) -> Option<FaultLog> {
        self.programs.fault_log()
    }

    /// Detaches all programs and removes their pins. The maps stay open, to be read one last time.
    pub fn detach(&mut self) -> Result<(), KernelError> {
        self.programs.detach();
        match self.pins.take() {
            Some(pins) => Ok(pins.remove_all_until(|| self.programs.have_gone(&self.maps))?),
            None => Ok(()),
        }
    }

    /// Whether enforcement outlives this process.
    #[must_use]
    pub const fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Where links and maps are pinned; `None` where they are not.
    #[must_use]
    pub fn pinned_in(&self) -> Option<String> {
        let pins = self.pins.as_ref()?;
        Some(pins.shown_directory().display().to_string())
    }

    /// Which hook decides.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        self.programs.hook()
    }

    /// What the cgroup programs can do here.
    #[must_use]
    pub const fn features(&self) -> Features {
        self.programs.features()
    }

    /// Why `auto` did not choose the LSM, where it did not.
    #[must_use]
    pub const fn fallback(&self) -> Option<&KernelError> {
        self.fallback.as_ref()
    }

    /// What was found in the pins at the start.
    #[must_use]
    pub fn startup_notes(&self) -> &[String] {
        &self.notes
    }
}

/// Pins what is in the slots of the maps of maps.
fn pin_inner_maps(
    maps: &Maps,
    image: Option<&KernelImage>,
    aggregates: Option<&Aggregates>,
) -> Result<(), KernelError> {
    image.map_or(Ok(()), |image| image.pin(maps))?;
    aggregates.map_or(Ok(()), |aggregates| aggregates.pin(maps))
}
