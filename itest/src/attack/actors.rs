//! The table of actors: the callers, and the identity that decides for each.

/// What an actor does before it binds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Moves the process to a cgroup below the suite's.
    Cgroup(&'static str),
    /// Sets real, effective and saved uid.
    Uids(u32, u32, u32),
    /// Creates a network namespace.
    Netns,
    /// Returns to the network namespace of init.
    HostNetns,
    /// Creates a user namespace and is root in it.
    Userns,
    /// Creates a user namespace and, owned by it, a network namespace.
    UsernsAndNetns,
    /// Continues in a child.
    Fork,
    /// Continues in a second thread; the first changes its own uids.
    ThreadOf(u32),
    /// Continues in a second thread; the first moves to a threaded cgroup.
    ThreadLeaderIn(&'static str),
    /// Moves only this thread to a threaded cgroup.
    ThreadCgroup(&'static str),
    /// Continues in a binary that is set-user-ID for this user.
    SetUid(u32),
}

/// Sockets are made between `before` and `after`, and bound after `after`.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) name: &'static str,
    pub(super) before: &'static [Step],
    pub(super) after: &'static [Step],
    /// Real uid at the bind, in the initial user namespace.
    pub(super) uid: u32,
    pub(super) euid: u32,
    /// The binding thread is in a cgroup that the policy jails.
    pub(super) jailed: bool,
    /// The socket belongs to the host's network namespace.
    pub(super) host_netns: bool,
    /// The kernel alone lets it bind privileged ports.
    pub(super) capable: bool,
}

/// The cgroup that the policy jails.
pub(super) const JAIL: &str = "jail";
/// A cgroup that the policy does not jail.
pub(super) const YARD: &str = "yard";
/// A cgroup and its threaded children, of which the second is jailed.
pub(super) const THREADS: &str = "threads";
pub(super) const THREADS_FREE: &str = "threads/free";
pub(super) const THREADS_JAIL: &str = "threads/jail";

use Step::{
    Cgroup, Fork, HostNetns, Netns, SetUid, ThreadCgroup, ThreadLeaderIn, ThreadOf, Uids, Userns,
    UsernsAndNetns,
};

const ROOT_AGAIN: Step = Uids(0, 0, 0);
const WWW: Step = Uids(33, 33, 33);
const ALICE: Step = Uids(1000, 1000, 1000);

/// One row of the table.
macro_rules! actors {
    ($($name:literal $before:tt $after:tt $uid:literal $euid:literal $jailed:ident $host_netns:ident $capable:ident)*) => {
        &[$(Actor {
            name: $name,
            before: &$before,
            after: &$after,
            uid: $uid,
            euid: $euid,
            jailed: actors!(@$jailed),
            host_netns: actors!(@$host_netns),
            capable: actors!(@$capable),
        }),*]
    };
    (@yes) => { true };
    (@no) => { false };
}

/// Every actor. Rules on the uid name 33.
pub(super) const ACTORS: &[Actor] = actors![
    // name                                     before the socket                                      after the socket            uid  euid jailed host-netns capable
    "root"                                      []                                                     []                          0    0    no     yes    yes
    "the user of a rule"                        [WWW]                                                  []                          33   33   no     yes    no
    "another user"                              [ALICE]                                                []                          1000 1000 no     yes    no
    "root, jailed"                              [Cgroup(JAIL)]                                         []                          0    0    yes    yes    yes
    "the user of a rule, jailed"                [Cgroup(JAIL), WWW]                                    []                          33   33   yes    yes    no
    "root of a user namespace"                  [ALICE, Userns]                                        []                          1000 1000 no     yes    no
    "the user of a rule, in a user namespace"   [WWW, Userns]                                          []                          33   33   no     yes    no
    "root in its own netns"                     [Netns]                                                []                          0    0    no     no     yes
    "a user in its own netns"                   [ALICE, UsernsAndNetns]                                []                          1000 1000 no     no     yes
    "netns left after socket()"                 []                                                     [Netns]                     0    0    no     yes    yes
    "netns left after socket(), by a user"      [ALICE]                                                [UsernsAndNetns]            1000 1000 no     yes    no
    "netns entered before socket(), then left"  [Netns]                                                [HostNetns]                 0    0    no     no     yes
    "thread of a leader with the rule's uid"    [ThreadOf(33), ALICE]                                  []                          1000 1000 no     yes    no
    "thread with the rule's uid"                [ThreadOf(1000), WWW]                                  []                          33   33   no     yes    no
    "thread of root"                            [ThreadOf(0), ALICE]                                   []                          1000 1000 no     yes    no
    "thread in the jail, leader free"           [Cgroup(THREADS), ThreadLeaderIn(THREADS_FREE), ThreadCgroup(THREADS_JAIL)] []     0    0    yes    yes    yes
    "thread free, leader in the jail"           [Cgroup(THREADS), ThreadLeaderIn(THREADS_JAIL), ThreadCgroup(THREADS_FREE)] []     0    0    no     yes    yes
    "gives up its uid after socket()"           [Uids(33, 33, 0)]                                      [ROOT_AGAIN, ALICE]         1000 1000 no     yes    no
    "takes the rule's uid after socket()"       [Uids(1000, 1000, 0)]                                  [ROOT_AGAIN, WWW]           33   33   no     yes    no
    "gives up root after socket()"              []                                                     [ALICE]                     1000 1000 no     yes    no
    "becomes root after socket()"               [Uids(1000, 1000, 0)]                                  [ROOT_AGAIN]                0    0    no     yes    yes
    "jailed after socket()"                     [Cgroup(YARD)]                                         [Cgroup(JAIL)]              0    0    yes    yes    yes
    "leaves the jail after socket()"            [Cgroup(JAIL)]                                         [Cgroup(YARD)]              0    0    no     yes    yes
    "child with its parent's socket"            [Uids(33, 33, 0)]                                      [Fork, ROOT_AGAIN, ALICE]   1000 1000 no     yes    no
    "child with its parent's socket, jailed"    [Cgroup(YARD)]                                         [Fork, Cgroup(JAIL)]        0    0    yes    yes    yes
    "child of another user with the rule's uid" [Uids(1000, 1000, 0)]                                  [Fork, ROOT_AGAIN, WWW]     33   33   no     yes    no
    "set-uid root, by a user"                   [ALICE, SetUid(0)]                                     []                          1000 0    no     yes    yes
    "set-uid root, by the rule's user"          [WWW, SetUid(0)]                                       []                          33   0    no     yes    yes
    "set-uid of the service, by a user"         [ALICE, SetUid(33)]                                    []                          1000 33   no     yes    no
    "set-uid of a user, by the service"         [WWW, SetUid(1000)]                                    []                          33   1000 no     yes    no
    "real root, effective of the rule"          [Uids(0, 33, 0)]                                       []                          0    33   no     yes    no
];
