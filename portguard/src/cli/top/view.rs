//! Which part of the tally is shown, and the keys that change it.

use super::Message;
use super::tally::{Order, Tally};
use crate::status::Status;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Binds by user, port and program.
    Binds,
    /// Refused binds.
    Refused,
    /// Hits per rule.
    Rules,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Binds, Self::Refused, Self::Rules];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Binds => "1 binds",
            Self::Refused => "2 refused",
            Self::Rules => "3 rules",
        }
    }

    /// The table `by` steps further, wrapping around.
    fn turned(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|table| *table == self);
        let next = (at.unwrap_or_default() + by) % Self::ALL.len();
        Self::ALL.get(next).copied().unwrap_or(self)
    }
}

/// What is on the screen.
pub(super) struct View {
    pub(super) tally: Tally,
    /// The tally at the moment of the pause; counting continues in the background.
    paused: Option<Box<Tally>>,
    /// The latest status of the daemon.
    pub(super) status: Option<Box<Status>>,
    /// Why the daemon is not reachable.
    pub(super) gone: Option<String>,
    pub(super) table: Table,
    pub(super) order: Order,
    /// The selected row, and the first row shown.
    pub(super) place: TableState,
    /// Rows that fit on the screen.
    pub(super) page: u16,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            tally: Tally::new(),
            paused: None,
            status: None,
            gone: None,
            table: Table::Binds,
            order: Order::default(),
            place: TableState::new(),
            page: 1,
        }
    }

    /// What to draw.
    pub(super) fn shown(&self) -> &Tally {
        self.paused.as_deref().unwrap_or(&self.tally)
    }

    pub(super) const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Applies a message.
    pub(super) fn take(&mut self, told: Message) {
        match told {
            Message::DecisionEvent(decided) => self.tally.add(*decided),
            Message::Dropped(dropped) => self.tally.dropped += dropped,
            Message::Status(status) => self.status = Some(status),
            Message::Connected => self.gone = None,
            Message::Disconnected(why) => self.gone = Some(why),
            Message::Terminal(_) | Message::TerminalClosed => {}
        }
    }

    /// Handles a key; false if it quits. Any other terminal event only redraws.
    pub(super) fn press(&mut self, event: &Event) -> bool {
        let &Event::Key(KeyEvent {
            code,
            modifiers,
            kind,
            ..
        }) = event
        else {
            return true;
        };
        if kind == KeyEventKind::Release {
            return true;
        }
        if modifiers.contains(KeyModifiers::CONTROL) {
            return code != KeyCode::Char('c');
        }
        match code {
            KeyCode::Char('q') => return false,
            KeyCode::Char('p' | ' ') => {
                self.paused = match self.paused {
                    None => Some(Box::new(self.tally.clone())),
                    Some(_) => None,
                };
            }
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Tab | KeyCode::Right => self.turn(self.table.turned(1)),
            KeyCode::BackTab | KeyCode::Left => self.turn(self.table.turned(2)),
            KeyCode::Char('1') => self.turn(Table::Binds),
            KeyCode::Char('2') => self.turn(Table::Refused),
            KeyCode::Char('3') => self.turn(Table::Rules),
            KeyCode::Down | KeyCode::Char('j') => self.place.select_next(),
            KeyCode::Up | KeyCode::Char('k') => self.place.select_previous(),
            KeyCode::PageDown => self.place.scroll_down_by(self.page),
            KeyCode::PageUp => self.place.scroll_up_by(self.page),
            KeyCode::Home => self.place.select_first(),
            KeyCode::End => self.place.select_last(),
            KeyCode::Esc => self.place = TableState::new(),
            _ => {}
        }
        true
    }

    fn turn(&mut self, table: Table) {
        self.table = table;
        self.place = TableState::new();
    }
}
