//! Ways to a port that are out of scope, and the words that name each in the limits of docs/overview.md.

/// A way that portguard does not decide.
pub struct Limit {
    pub way: &'static str,
    /// A part of the section "Limits".
    pub named: &'static str,
}

const fn limit(way: &'static str, named: &'static str) -> Limit {
    Limit { way, named }
}

/// Every way that is out of scope.
#[rustfmt::skip]
pub const OUT_OF_SCOPE: &[Limit] = &[
    limit("a descriptor inherited by fork and exec",       "handed on by fork"),
    limit("a descriptor sent over a unix socket",          "`SCM_RIGHTS`"),
    limit("pidfd_getfd(2)",                                "`pidfd_getfd`"),
    limit("a systemd .socket unit",                        "`.socket` unit's cgroup"),
    limit("IP_TRANSPARENT",                                "TPROXY"),
    limit("nft redirect",                                  "DNAT"),
    limit("a BPF program that picks sockets",              "`sk_lookup`"),
    limit("a BPF program that binds for others",           "`bpf_bind()`"),
    limit("root that takes the programs away",             "rights to detach programs"),
    limit("listen() and connect() without bind",           "`listen()` without bind"),
    limit("IP_LOCAL_PORT_RANGE",                           "`IP_LOCAL_PORT_RANGE`"),
    limit("bind of port 0",                                "port 0"),
    limit("a socket bound before the start",               "Sockets bound before"),
    limit("ptrace(2) of a granted process of the same user", "`kernel.yama.ptrace_scope`"),
    limit("IPV6_V6ONLY flipped in between",                "`IPV6_V6ONLY` set by another thread"),
    limit("kernel threads",                                "Kernel threads"),
    limit("SOCK_RAW",                                      "Raw"),
    limit("ping sockets",                                  "ping"),
    limit("AF_VSOCK",                                      "vsock"),
    limit("AF_UNIX",                                       "unix"),
    limit("AF_PACKET and AF_XDP",                          "packet"),
    limit("AF_TIPC",                                       "TIPC"),
    limit("AF_RDS",                                        "RDS"),
    limit("AF_KCM",                                        "KCM"),
    limit("L2TP over IP",                                  "L2TP"),
    limit("Bluetooth L2CAP",                               "L2CAP"),
    limit("AF_ATMPVC, AF_MCTP, AF_QIPCRTR",                "ATM, MCTP and QRTR"),
    limit("another network namespace, by scope: host",     "own network namespace"),
    limit("SCTP without the LSM hook",                     "SCTP is not covered"),
    limit("a program that undoes denials later",           "`bpf_set_retval()`"),
    limit("a grant by another program",                    "grants what the policy leaves to the kernel"),
];

#[cfg(test)]
mod tests {
    use super::OUT_OF_SCOPE;

    #[test]
    fn readme_names_every_limit() {
        let readme = include_str!("../../../docs/overview.md");
        let (_, rest) = readme.split_once("\n## Limits\n").expect("a section");
        let section = rest.split("\n## ").next().unwrap_or_default();
        // Line breaks do not matter.
        let text = section.split_whitespace().collect::<Vec<_>>().join(" ");
        let missing: Vec<&str> = OUT_OF_SCOPE
            .iter()
            .filter(|limit| !text.contains(limit.named))
            .map(|limit| limit.way)
            .collect();
        assert_eq!(missing, Vec::<&str>::new(), "not named among the limits");
    }
}
