//! Probes: short stretches that the pacer sends at a rate above the target, and what arrives of them. They find in a round
//! trip what growth finds in seconds.

/// A value of the session: what the pacer is to send. A byte 1, the version; then 12 bytes for each probe, in order:
/// number (u32), bits per second (u32), least duration in milliseconds (u16), least packets (u16), little-endian. The
/// pacer sends those whose numbers are above that of the last one it has sent, and marks their packets with the attribute
/// `pacer.probe`.
pub const PROBES: &str = "gcc.probes";

const VERSION: u8 = 1;
/// Least duration, in milliseconds, of a probe of a path that nobody is known to use, and of one in use: others' frames
/// leave gaps, and a probe that falls into one finds what is not there. Least packets (Chrome).
const SHORT: u16 = 15;
const LONG: u16 = 40;
const PACKETS: u16 = 5;
/// Probes that may be open at once.
const OPEN: usize = 4;
/// How long one that does not arrive is waited for, in microseconds.
const PATIENCE: i64 = 1_000_000;
/// Rates of the first two, relative to the first target (Chrome).
const FIRST: [f64; 2] = [3.0, 6.0];
/// The next one after one that arrived as it was sent.
const FURTHER: f64 = 1.7;
/// One that looks for more on a path in use.
const AROUND: f64 = 1.5;
/// Time between probes of a path that is in use, and after so many that did not arrive.
const PERIOD: i64 = 2_500_000;
const FUTILE: u32 = 3;
const FUTILE_PERIOD: i64 = 30_000_000;
/// What part of a probe has to arrive for it to be measured.
const ENOUGH: f64 = 0.8;
/// Where it took less than this part of the time to leave that it took to arrive, it filled the path.
const UNHINDERED: f64 = 0.93;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Probe {
    number: u32,
    rate: f64,
    /// Milliseconds.
    duration: u16,
    ordered: i64,
    /// Of its packets that have arrived: how many and how large, the first and the last as sent and as arrived, and their
    /// sizes.
    packets: u32,
    bytes: u64,
    sent: Span,
    arrived: Span,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Span {
    first: i64,
    last: i64,
    first_size: u32,
    last_size: u32,
}

impl Span {
    fn add(&mut self, at: i64, size: u32, begins: bool) {
        if begins || at < self.first {
            (self.first, self.first_size) = (at, size);
        }
        if begins || at >= self.last {
            (self.last, self.last_size) = (at, size);
        }
    }

    fn micros(&self) -> i64 {
        self.last - self.first
    }
}

/// What a probe has found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// Bits per second.
    pub(crate) rate: f64,
    /// It filled the path: there is no more than this.
    pub(crate) filled: bool,
}

/// The probes that are open, and when there was last one.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    enabled: bool,
    open: Vec<Probe>,
    /// The last one ordered.
    number: u32,
    ordered: i64,
    /// In a row.
    futile: u32,
    /// Since the last change, the orders have not been told.
    changed: bool,
}

impl Probes {
    /// `number` is that of a predecessor's last probe.
    pub(crate) fn new(enabled: bool, number: u32) -> Self {
        Self { enabled, open: Vec::new(), number, ordered: i64::MIN, futile: 0, changed: false }
    }

    /// Of the last probe ordered.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// What to order of the pacer, if that has changed since it was last asked for.
    pub(crate) fn orders(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut orders = Vec::with_capacity(1 + 12 * self.open.len());
        orders.push(VERSION);
        for probe in &self.open {
            orders.extend_from_slice(&probe.number.to_le_bytes());
            orders.extend_from_slice(&(probe.rate as u32).to_le_bytes());
            orders.extend_from_slice(&probe.duration.to_le_bytes());
            orders.extend_from_slice(&PACKETS.to_le_bytes());
        }
        Some(orders)
    }

    /// The path is new.
    pub(crate) fn begin(&mut self, now: i64, target: f64, most: f64) {
        for factor in FIRST {
            self.order(now, target * factor, SHORT, most);
        }
    }

    /// There may be more than was found, at the beginning or on a path in use.
    pub(crate) fn further(&mut self, now: i64, found: f64, beginning: bool, most: f64) {
        self.order(now, found * FURTHER, if beginning { SHORT } else { LONG }, most);
    }

    /// Looks for more now and then.
    pub(crate) fn look_around(&mut self, now: i64, target: f64, most: f64) {
        let period = if self.futile < FUTILE { PERIOD } else { FUTILE_PERIOD };
        if self.open.is_empty() && now.saturating_sub(self.ordered) >= period {
            self.order(now, target * AROUND, LONG, most);
        }
    }

    fn order(&mut self, now: i64, rate: f64, duration: u16, most: f64) {
        if !self.enabled || self.open.len() >= OPEN {
            return;
        }
        self.number = self.number.wrapping_add(1).max(1);
        let rate = rate.min(FURTHER * most).min(u32::MAX.into());
        self.open.push(Probe {
            number: self.number,
            rate,
            duration,
            ordered: now,
            packets: 0,
            bytes: 0,
            sent: Span::default(),
            arrived: Span::default(),
        });
        self.ordered = now;
        self.changed = true;
    }

    /// A packet of a probe has arrived.
    pub(crate) fn add(&mut self, number: u32, sent: i64, arrived: i64, size: u32) {
        if let Some(probe) = self.open.iter_mut().find(|probe| probe.number == number) {
            let begins = probe.packets == 0;
            probe.packets += 1;
            probe.bytes += u64::from(size);
            probe.sent.add(sent, size, begins);
            probe.arrived.add(arrived, size, begins);
        }
    }

    /// What the probes have found of which enough has arrived; gives up those that do not.
    pub(crate) fn found(&mut self, now: i64) -> Option<Found> {
        let mut best: Option<Found> = None;
        let before = self.open.len();
        let mut arrived = 0;
        self.open.retain(|probe| {
            let found = probe.found();
            arrived += u32::from(found.is_some());
            if let Some(found) = found {
                best = best.filter(|best| best.rate > found.rate).or(Some(found));
            }
            found.is_none() && now - probe.ordered < PATIENCE
        });
        if self.open.len() < before {
            self.changed = true;
            let gone = (before - self.open.len()) as u32;
            self.futile = if arrived > 0 { 0 } else { self.futile.saturating_add(gone) };
        }
        best
    }
}

impl Probe {
    fn found(&self) -> Option<Found> {
        let bytes = self.rate * f64::from(self.duration) / 8000.0;
        if f64::from(self.packets) < ENOUGH * f64::from(PACKETS) || (self.bytes as f64) < ENOUGH * bytes {
            return None;
        }
        let rate = |size: u32, span: Span| {
            let micros = span.micros();
            (micros > 0).then(|| (self.bytes - u64::from(size)) as f64 * 8e6 / micros as f64)
        };
        // Of what was sent, the last packet took no time yet; of what arrived, the first one.
        let arrived = rate(self.arrived.first_size, self.arrived)?;
        let sent = rate(self.sent.last_size, self.sent).unwrap_or(f64::INFINITY);
        // By time and not by rate: of few packets, one that is smaller than the others makes the rates differ.
        let filled = (self.sent.micros() as f64) < UNHINDERED * self.arrived.micros() as f64;
        Some(Found { rate: arrived.min(sent), filled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: f64 = 1e8;

    /// Sends `count` packets of 1200 bytes as probe `number`, `apart` microseconds from each other, of which each takes
    /// `takes` microseconds of the path.
    fn send(probes: &mut Probes, number: u32, count: i64, apart: i64, takes: i64) {
        let mut free = 0;
        for n in 0..count {
            free = (n * apart).max(free) + takes;
            probes.add(number, n * apart, 50_000 + free, 1200);
        }
    }

    #[test]
    fn a_probe_that_arrives_as_it_was_sent_finds_its_rate_and_asks_for_more() {
        let mut probes = Probes::new(true, 0);
        probes.begin(0, 3e5, MOST);
        let orders = probes.orders().unwrap();
        assert_eq!(orders.len(), 25);
        assert_eq!(orders[..13], [1, 1, 0, 0, 0, 0xa0, 0xbb, 0x0d, 0, 15, 0, 5, 0]);
        assert_eq!(probes.orders(), None);
        // 1.92 Mbit/s.
        send(&mut probes, 2, 5, 5_000, 1_000);
        let found = probes.found(200_000).unwrap();
        assert!((found.rate - 1.92e6).abs() < 1e3 && !found.filled, "{found:?}");
        probes.further(200_000, found.rate, true, MOST);
        assert_eq!(probes.orders().unwrap().len(), 25, "the first one is still open");
        assert_eq!(probes.found(1_000_000), None);
        assert_eq!(probes.orders().unwrap().len(), 13);
    }

    #[test]
    fn a_probe_that_fills_the_path_finds_the_paths_rate() {
        let mut probes = Probes::new(true, 6);
        probes.further(0, 3e6, true, MOST);
        // 6 Mbit/s sent, 3 Mbit/s arrived.
        send(&mut probes, 7, 12, 1_600, 3_200);
        let found = probes.found(100_000).unwrap();
        assert!((found.rate - 3e6).abs() < 1e3 && found.filled, "{found:?}");
    }

    #[test]
    fn too_little_of_a_probe_finds_nothing() {
        let mut probes = Probes::new(true, 0);
        probes.further(0, 5e6, true, MOST);
        send(&mut probes, 1, 9, 1_100, 1_100);
        assert_eq!(probes.found(100_000), None, "10,800 of 15,937 bytes ordered");
        let mut probes = Probes::new(true, 0);
        probes.further(0, 1.2e5, true, MOST);
        send(&mut probes, 1, 3, 40_000, 40_000);
        assert_eq!(probes.found(200_000), None);
    }

    #[test]
    fn who_looks_around_in_vain_does_so_less() {
        let mut probes = Probes::new(true, 0);
        let mut ordered = 0;
        for second in 0..120 {
            probes.look_around(second * 1_000_000, 1e6, MOST);
            ordered += usize::from(probes.orders().is_some_and(|orders| orders.len() > 1));
            probes.found(second * 1_000_000);
        }
        assert!((4..10).contains(&ordered), "{ordered}");
    }

    #[test]
    fn probes_are_few_and_none_where_not_wanted() {
        let mut probes = Probes::new(true, u32::MAX - 1);
        for _ in 0..10 {
            probes.begin(0, 1e6, MOST);
        }
        assert_eq!(probes.open.len(), OPEN);
        assert_eq!(probes.open.iter().map(|probe| probe.number).collect::<Vec<_>>(), [u32::MAX, 1, 2, 3]);
        let mut none = Probes::new(false, 0);
        none.begin(0, 1e6, MOST);
        none.look_around(10_000_000, 1e6, MOST);
        assert_eq!(none.orders(), None);
    }
}
