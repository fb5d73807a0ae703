//! The open connections: how many there may be, in all and of one client, and which one is closed for another.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// Connections at once.
const CONNECTIONS: usize = 64;

/// Of these, those of one client.
const PER_CLIENT: usize = 8;

/// Whom a connection counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A user of this host.
    Uid(u32),
    /// Another host, or the network of an IPv6 one.
    Address(IpAddr),
}

struct Connection {
    id: u64,
    client: Client,
    /// It has not sent its request yet.
    idle: bool,
    /// `None` until it has a task.
    task: Option<AbortHandle>,
}

/// All of them, the oldest first.
#[derive(Default)]
struct Table {
    open: Vec<Connection>,
    last: u64,
}

impl Table {
    /// Takes a connection in, and closes another one where there are too many: of the same client if it has its
    /// share, else of the client that has the most. Those without a request go first, then the oldest.
    fn admit(&mut self, client: Client) -> u64 {
        let full = self.open.len() >= CONNECTIONS;
        if self.count(client) >= PER_CLIENT {
            self.close_one(client);
        } else if full && let Some(largest) = self.largest() {
            self.close_one(largest);
        }
        self.last += 1;
        self.open.push(Connection {
            id: self.last,
            client,
            idle: true,
            task: None,
        });
        self.last
    }

    fn count(&self, client: Client) -> usize {
        let of_client = self.open.iter().filter(|of| of.client == client);
        of_client.count()
    }

    /// The client with the most connections; of several, the one that has an older idle one.
    fn largest(&self) -> Option<Client> {
        // The last of equal ones is taken.
        let newest_first = self.open.iter().rev();
        let largest = newest_first.max_by_key(|of| (self.count(of.client), of.idle));
        largest.map(|of| of.client)
    }

    fn close_one(&mut self, client: Client) {
        let of_client = |of: &Connection| of.client == client;
        let idle = self.open.iter().position(|of| of_client(of) && of.idle);
        let Some(at) = idle.or_else(|| self.open.iter().position(of_client)) else {
            return;
        };
        if let Some(task) = self.open.remove(at).task {
            task.abort();
        }
    }

    fn find(&mut self, id: u64) -> Option<&mut Connection> {
        self.open.iter_mut().find(|of| of.id == id)
    }
}

/// The open connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Table>>);

impl Connections {
    fn table(&self) -> MutexGuard<'_, Table> {
        // No step leaves the table half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in; another one may be closed for it.
    pub(super) fn admit(&self, client: Client) -> Place {
        let id = self.table().admit(client);
        let connections = self.clone();
        Place { id, connections }
    }

    /// Tells which task to end when the connection is closed.
    pub(super) fn set_task(&self, id: u64, task: AbortHandle) {
        if let Some(connection) = self.table().find(id) {
            connection.task = Some(task);
        }
    }
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    id: u64,
    connections: Connections,
}

impl Place {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Its request is there: connections without one are closed before it.
    pub(super) fn has_request(&self) {
        if let Some(connection) = self.connections.table().find(self.id) {
            connection.idle = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.table().open.retain(|of| of.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRAPER: Client = Client::Uid(9);

    fn is_open(table: &Table, id: u64) -> bool {
        table.open.iter().any(|of| of.id == id)
    }

    #[test]
    fn client_with_its_share_loses_its_oldest_idle_connection() {
        let mut table = Table::default();
        let first = table.admit(Client::Uid(1));
        table.find(first).unwrap().idle = false;
        let scraper = table.admit(SCRAPER);
        let second = table.admit(Client::Uid(1));
        for _ in 0..400 {
            table.admit(Client::Uid(1));
            assert!(table.count(Client::Uid(1)) <= PER_CLIENT);
        }
        assert!(is_open(&table, first) && is_open(&table, scraper));
        assert!(!is_open(&table, second));
    }

    #[test]
    fn connections_are_bounded_and_the_largest_client_yields() {
        let mut table = Table::default();
        for uid in 100..200 {
            for _ in 0..PER_CLIENT {
                table.admit(Client::Uid(uid));
                assert!(table.open.len() <= CONNECTIONS);
            }
        }
        let scraper = table.admit(SCRAPER);
        // Each of many clients gets a place, while one has more than the scraper.
        for uid in 1_000..1_000 + CONNECTIONS as u32 / 2 {
            table.admit(Client::Uid(uid));
            assert!(table.open.len() <= CONNECTIONS && is_open(&table, scraper));
        }
    }

    #[test]
    fn client_whose_connections_all_have_requests_loses_the_oldest() {
        let mut table = Table::default();
        let ids: Vec<u64> = (0..PER_CLIENT).map(|_| table.admit(SCRAPER)).collect();
        table.open.iter_mut().for_each(|of| of.idle = false);
        let last = table.admit(SCRAPER);
        assert!(!is_open(&table, ids[0]) && is_open(&table, ids[1]) && is_open(&table, last));
    }

    #[test]
    fn ended_connection_leaves_its_place() {
        let connections = Connections::default();
        drop(connections.admit(SCRAPER));
        assert!(connections.table().open.is_empty());
    }
}
