//! A kernel setting that a test changes.

/// A setting, restored when dropped.
pub(crate) struct Sysctl {
    path: &'static str,
    before: String,
}

impl Sysctl {
    pub(crate) fn set(path: &'static str, value: &str) -> anyhow::Result<Self> {
        let before = std::fs::read_to_string(path)?;
        std::fs::write(path, value)?;
        Ok(Self { path, before })
    }
}

impl Drop for Sysctl {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(self.path, &self.before) {
            eprintln!("{} is not restored: {error}", self.path);
        }
    }
}
