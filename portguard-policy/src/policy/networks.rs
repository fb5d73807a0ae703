//! Addresses: single ones and networks.

use super::document::Node;
use super::reader::Reader;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Bits before the IPv4 address in an IPv4-mapped one.
const MAPPED_BITS: u8 = 96;

impl Reader<'_> {
    /// An address or a network.
    pub(super) fn network(&mut self, node: &Node) -> Option<IpNet> {
        let text = self.text(node, "an address or a network like \"10.0.0.0/8\"")?;
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => match text.parse::<IpNet>() {
                Ok(network) => network,
                Err(_) => {
                    let help = "expected an address like \"::1\" or a network like \"10.0.0.0/8\""
                        .to_owned();
                    let message = format!("invalid address or network `{text}`");
                    self.error(node.span, message, Some(help));
                    return None;
                }
            },
        };
        if network.addr() != network.network() {
            let whole = network.trunc();
            let one = IpNet::from(network.addr());
            self.error(
                node.span,
                format!("network `{text}` has host bits set"),
                Some(format!(
                    "use \"{whole}\" for the network or \"{}\" for the single address",
                    one.addr()
                )),
            );
            return None;
        }
        Some(unmapped(network))
    }

    /// One address.
    pub(super) fn address(&mut self, node: &Node) -> Option<IpAddr> {
        let text = self.text(node, "an address")?;
        let address = text.parse().ok();
        if address.is_none() {
            self.error(node.span, format!("invalid address `{text}`"), None);
        }
        address
    }
}

/// An IPv4-mapped network is one of IPv4: a bind of such an address is an IPv4 bind.
fn unmapped(network: IpNet) -> IpNet {
    if let IpNet::V6(six) = network
        && let Some(prefix) = six.prefix_len().checked_sub(MAPPED_BITS)
        && let Some(four) = six.addr().to_ipv4_mapped()
        && let Ok(four) = Ipv4Net::new(four, prefix)
    {
        return four.into();
    }
    network
}
