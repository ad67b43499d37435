//! What happens, in order, and how long each part takes.

use std::time::Duration;

use serde::Serialize;

/// A part of the demonstration. Packets belong to the act in which they were sent; those of none are in no figure but
/// the relay's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Act {
    Bare,
    Repair,
    Swap,
    Crash,
    Loop,
}

impl Act {
    pub(super) const ALL: [Self; 5] = [Self::Bare, Self::Repair, Self::Swap, Self::Crash, Self::Loop];

    /// From 1.
    pub(super) fn number(self) -> usize {
        self as usize + 1
    }

    /// For a line of a table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Bare => "no plugins",
            Self::Repair => "repair loaded",
            Self::Swap => "it is replaced",
            Self::Crash => "a plugin crashes",
            Self::Loop => "a plugin loops",
        }
    }

    /// What is going to happen, for somebody who has not seen it yet.
    pub(super) fn announcement(self) -> &'static str {
        match self {
            Self::Bare => "The viewer's chain is empty: what the link loses stays lost.",
            Self::Repair => "Repair is loaded into the live session: what is lost is sent again.",
            Self::Swap => "The nack-responder and its next version take each other's place.",
            Self::Crash => "A plugin of somebody else's stands before every packet, and crashes.",
            Self::Loop => "Another one stands there, and does not return from its first packet.",
        }
    }
}

/// A value for each act, and one for what is in none.
#[derive(Debug, Default)]
pub(super) struct PerAct<T>([T; Act::ALL.len() + 1]);

impl<T: Copy> PerAct<T> {
    pub(super) fn of(&mut self, act: Option<Act>) -> &mut T {
        &mut self.0[act.map_or(0, Act::number)]
    }

    pub(super) fn get(&self, act: Option<Act>) -> T {
        self.0[act.map_or(0, Act::number)]
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// The act without plugins.
    pub(super) bare: Duration,
    /// The act after repair was loaded.
    pub(super) repair: Duration,
    /// Between two replacements.
    pub(super) swap: Duration,
    /// How often the plugin is replaced: an odd number, so that the new version stays.
    pub(super) swaps: usize,
    /// After a plugin's fault.
    pub(super) fault: Duration,
}

impl Timing {
    /// Long enough to watch.
    pub(super) const FULL: Self = Self {
        bare: Duration::from_millis(3500),
        repair: Duration::from_millis(4000),
        swap: Duration::from_millis(400),
        swaps: 9,
        fault: Duration::from_millis(2500),
    };
    /// Long enough to measure.
    pub(super) const QUICK: Self = Self {
        bare: Duration::from_millis(1200),
        repair: Duration::from_millis(1500),
        swap: Duration::from_millis(200),
        swaps: 7,
        fault: Duration::from_millis(700),
    };
}
