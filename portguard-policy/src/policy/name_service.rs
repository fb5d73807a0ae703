//! Names that only the machine can resolve.

/// Where user names and the host's name come from.
pub trait Names {
    /// The uid of a user, or `None` where there is none of this name.
    fn uid(&self, name: &str) -> Option<u32>;
    /// Names to suggest where one is unknown.
    fn user_names(&self) -> Vec<String>;
    /// The gid of a group, or `None` where there is none of this name.
    fn gid(&self, name: &str) -> Option<u32>;
    /// Names to suggest where one is unknown.
    fn group_names(&self) -> Vec<String>;
    /// The gids of a user: primary and supplementary.
    fn gids_of(&self, user: &str) -> Vec<u32>;
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

    fn gid(&self, name: &str) -> Option<u32> {
        uzers::get_group_by_name(name).map(|group| group.gid())
    }

    fn group_names(&self) -> Vec<String> {
        let group = std::fs::read_to_string("/etc/group").unwrap_or_default();
        let names = group.lines().filter_map(|line| line.split(':').next());
        names.map(str::to_owned).collect()
    }

    fn gids_of(&self, user: &str) -> Vec<u32> {
        let groups = uzers::get_user_by_name(user).and_then(|user| user.groups());
        groups.iter().flatten().map(uzers::Group::gid).collect()
    }

    fn hostname(&self) -> String {
        let uname = rustix::system::uname();
        uname.nodename().to_string_lossy().into_owned()
    }
}

/// The users and groups of one machine, and another's name: for the policies of a fleet.
pub struct ForHost<'a> {
    /// Whose users and groups.
    pub names: &'a dyn Names,
    /// The host's name.
    pub host: &'a str,
}

impl Names for ForHost<'_> {
    fn uid(&self, name: &str) -> Option<u32> {
        self.names.uid(name)
    }

    fn user_names(&self) -> Vec<String> {
        self.names.user_names()
    }

    fn gid(&self, name: &str) -> Option<u32> {
        self.names.gid(name)
    }

    fn group_names(&self) -> Vec<String> {
        self.names.group_names()
    }

    fn gids_of(&self, user: &str) -> Vec<u32> {
        self.names.gids_of(user)
    }

    fn hostname(&self) -> String {
        self.host.to_owned()
    }
}
