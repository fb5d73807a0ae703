//! Names that only the machine can resolve.

/// Where user names and the host's name come from.
pub trait Names {
    /// The uid of a user, or `None` where there is none of this name.
    fn uid(&self, name: &str) -> Option<u32>;
    /// Names to suggest where one is unknown.
    fn user_names(&self) -> Vec<String>;
    /// The name of this host.
    fn hostname(&self) -> String;
}

/// This machine's.
pub struct SystemNames;

impl Names for SystemNames {
    fn uid(&self, name: &str) -> Option<u32> {
        uzers::get_user_by_name(name).map(|user| user.uid())
    }

    fn user_names(&self) -> Vec<String> {
        // Only for suggestions: users of a directory service are found, but not suggested.
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let names = passwd.lines().filter_map(|line| line.split(':').next());
        names.map(str::to_owned).collect()
    }

    fn hostname(&self) -> String {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    }
}
