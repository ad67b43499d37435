//! From a checked configuration to workers that are ready to run: sessions opened, streams bound, sockets bound.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use sandbar_host::{Chain, Instant, MemberSpec, SessionId, SessionSpec, Shard, ShardConfig, Tenant, TenantId};

use super::StartError;
use super::catalog::Catalog;
use super::chains::{LegControl, Placed};
use super::clock;
use super::events::Events;
use super::leg::{LegName, LegState, Role, Sockets};
use super::peer::PeerLock;
use super::route::{RouteState, SubscriberState};
use super::sinks::Sinks;
use super::worker::Worker;
use crate::config::{Config, ConfigError, KeyPath, Leg, Problem, Route};

/// What a relay is made of.
pub(super) struct Built {
    pub(super) workers: Vec<Worker>,
    pub(super) legs: Vec<LegControl>,
    pub(super) tenants: Vec<Tenant>,
}

/// Opens everything that `config` has.
pub(super) fn workers(config: &Config, catalog: &Catalog, events: &Events, sinks: &Sinks) -> Result<Built, StartError> {
    let identity = Identity::new(config);
    let mut workers = Vec::new();
    for _ in 0..worker_count(config) {
        workers.push(Worker::new(shard(&identity), events.clone(), sinks.clone()).map_err(StartError::System)?);
    }
    let mut legs = Vec::new();
    let mut problems = Vec::new();
    for (place, route) in config.routes.iter().enumerate() {
        // The worker with the fewest legs, the first of those.
        let number = (0..workers.len()).min_by_key(|number| workers[*number].legs.len()).unwrap_or_default();
        let opening = Opening { config, catalog, sinks, identity: &identity, route, place };
        match opening.open(&mut workers[number].shard) {
            Ok(opened) => legs.extend(opening.install(opened, &mut workers[number], number)?),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError::Invalid(problems).into());
    }
    Ok(Built { workers, legs, tenants: identity.tenants.into_values().map(|(_, tenant)| tenant).collect() })
}

/// Opens every session, without sockets, and forgets it again. Returns what is wrong.
pub(super) fn rehearse(config: &Config, catalog: &Catalog) -> Vec<Problem> {
    let (identity, sinks) = (Identity::new(config), Sinks::nowhere());
    let mut problems = Vec::new();
    for (place, route) in config.routes.iter().enumerate() {
        let opening = Opening { config, catalog, sinks: &sinks, identity: &identity, route, place };
        let mut shard = shard(&identity);
        match opening.open(&mut shard) {
            Ok(mut opened) => problems.extend(opening.rehearse_streams(&mut opened, &mut shard)),
            Err(found) => problems.extend(found),
        }
    }
    problems
}

/// The members of a leg's chain.
pub(super) fn members(config: &Config, catalog: &Catalog, sinks: &Sinks, name: &LegName, leg: &Leg) -> Vec<Placed> {
    let members = leg.chain.as_ref().and_then(|chain| config.chains.get(chain)).map(Vec::as_slice).unwrap_or_default();
    let placed = |member: &crate::config::Member| {
        let loaded = catalog.get(&member.plugin)?;
        let spec = MemberSpec {
            plugin: loaded.plugin.clone(),
            config: member.config.clone(),
            isolation: member.isolation,
            on_fault: member.on_fault,
            limits: member.limits,
            sink: member.sink.as_ref().map(|sink| sinks.of(config, name, sink)),
        };
        Some(Placed { name: member.plugin.clone(), spec })
    };
    members.iter().filter_map(placed).collect()
}

fn worker_count(config: &Config) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    config.server.workers.unwrap_or_else(|| processors.min(config.routes.len())).max(1)
}

fn shard(identity: &Identity) -> Shard {
    let mut shard =
        Shard::new(ShardConfig { wall_clock: clock::wall_clock(), seed: random(), ..ShardConfig::default() });
    for (id, tenant) in identity.tenants.values() {
        shard.set_tenant(*id, tenant.clone());
    }
    shard
}

/// Who this relay is to its peers, drawn at random.
struct Identity {
    cname: String,
    tenants: BTreeMap<String, (TenantId, Tenant)>,
}

impl Identity {
    fn new(config: &Config) -> Self {
        let mut tenants = BTreeMap::new();
        for route in &config.routes {
            let next = TenantId(tenants.len() as u32);
            let quotas = config.tenants.get(&route.tenant).map(|tenant| tenant.quotas).unwrap_or_default();
            let tenant = || (next, Tenant::new(&route.tenant, quotas));
            tenants.entry(route.tenant.clone()).or_insert_with(tenant);
        }
        // RFC 7022, 4.2: at least 96 random bits name an endpoint and nothing about its host.
        Self { cname: format!("{:016x}{:08x}", random(), random() as u32), tenants }
    }
}

/// From the keys that the standard library draws for its hash tables.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A route on its way to a worker.
struct Opening<'c> {
    config: &'c Config,
    catalog: &'c Catalog,
    sinks: &'c Sinks,
    identity: &'c Identity,
    route: &'c Route,
    place: usize,
}

/// A route's sessions, and those of its streams that are known beforehand bound.
struct Opened {
    state: RouteState,
    sessions: Vec<(LegName, Role, SessionId)>,
}

impl Opening<'_> {
    fn path(&self, role: Role) -> KeyPath {
        let route = KeyPath::ROOT.key("routes").index(self.place);
        match role {
            Role::Publisher => route.key("publisher"),
            Role::Subscriber(place) => route.key("subscribers").index(place),
        }
    }

    /// The route's legs, the publisher's first.
    fn legs(&self) -> impl Iterator<Item = (LegName, Role, &Leg)> {
        let route = &self.route.name;
        let publisher = (LegName::publisher(route), Role::Publisher, &self.route.publisher.leg);
        let subscribers = self.route.subscribers.iter().enumerate().map(move |(place, subscriber)| {
            (LegName::subscriber(route, &subscriber.name), Role::Subscriber(place), &subscriber.leg)
        });
        std::iter::once(publisher).chain(subscribers)
    }

    fn members(&self, name: &LegName, leg: &Leg) -> Vec<Placed> {
        members(self.config, self.catalog, self.sinks, name, leg)
    }

    fn open(&self, shard: &mut Shard) -> Result<Opened, Vec<Problem>> {
        let now = clock::now();
        let rtcp_ssrc = self.rtcp_ssrc();
        let mut problems = Vec::new();
        let mut sessions = Vec::new();
        for (name, role, leg) in self.legs() {
            let rtcp_ssrc = if role == Role::Publisher { rtcp_ssrc } else { self.rtcp_ssrc() };
            match shard.open_session(now, self.spec(&name, leg, rtcp_ssrc)) {
                Ok(session) => sessions.push((name, role, session)),
                Err(error) => problems.push(self.config.problem(&self.path(role).key("chain"), error.to_string())),
            }
        }
        let Some((_, _, session)) = sessions.first().filter(|_| problems.is_empty()) else { return Err(problems) };
        let mut state = RouteState::new(self.route, self.place, *session, rtcp_ssrc);
        for ((name, _, session), subscriber) in sessions[1..].iter().zip(&self.route.subscribers) {
            let own_reports = self.members(name, &subscriber.leg).iter().any(Placed::reports_as_sender);
            let forward = subscriber.forward_sender_reports.unwrap_or(!own_reports);
            let publisher = &self.route.publisher;
            state.subscribers.push(SubscriberState::new(*session, subscriber, publisher, forward));
        }
        let known = self.route.publisher.streams.iter().map(|stream| stream.ssrc);
        let mut opened = Opened { state, sessions };
        let problems = self.bind(now, &mut opened, shard, known);
        if problems.is_empty() { Ok(opened) } else { Err(problems) }
    }

    /// Binds streams by the sources that `ssrcs` gives for them.
    fn bind(
        &self,
        now: Instant,
        opened: &mut Opened,
        shard: &mut Shard,
        ssrcs: impl Iterator<Item = Option<u32>>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (index, ssrc) in ssrcs.enumerate() {
            let Some(ssrc) = ssrc else { continue };
            let stream = self.path(Role::Publisher).key("streams").index(index);
            match opened.state.bind(now, shard, index, ssrc) {
                Ok(refusals) => problems.extend(refusals.into_iter().map(|refusal| {
                    let path = self.path(Role::Subscriber(refusal.subscriber)).key("chain");
                    let stream = &self.route.publisher.streams[index].name;
                    self.config.problem(&path, format!("the stream {stream} cannot be bound: {}", refusal.error))
                })),
                Err(error) => problems.push(self.config.problem(&stream, error.to_string())),
            }
        }
        problems
    }

    /// Binds the streams whose sources are not known to sources that could be theirs.
    fn rehearse_streams(&self, opened: &mut Opened, shard: &mut Shard) -> Vec<Problem> {
        let named: Vec<_> = self.ssrcs().collect();
        let mut free = (1..).filter(|ssrc| !named.contains(ssrc));
        let ssrcs: Vec<_> = self
            .route
            .publisher
            .streams
            .iter()
            .map(|stream| if stream.ssrc.is_none() { free.next() } else { None })
            .collect();
        self.bind(clock::now(), opened, shard, ssrcs.into_iter())
    }

    fn spec(&self, name: &LegName, leg: &Leg, rtcp_ssrc: u32) -> SessionSpec {
        let chain = self.members(name, leg);
        SessionSpec {
            name: name.to_string(),
            tenant: self.identity.tenants.get(&self.route.tenant).map(|(id, _)| *id).unwrap_or_default(),
            mtu: leg.mtu,
            cname: leg.cname.clone().unwrap_or_else(|| self.identity.cname.clone()),
            rtcp_ssrc: Some(rtcp_ssrc),
            rtcp: leg.rtcp_mode,
            malformed: leg.malformed,
            seed: random(),
            chain: Chain::new(chain.into_iter().map(|placed| placed.spec)),
        }
    }

    /// An SSRC for RTCP that none of the route's streams has (RFC 3550, 8.1).
    fn rtcp_ssrc(&self) -> u32 {
        loop {
            let ssrc = random() as u32;
            if ssrc != 0 && self.ssrcs().all(|taken| taken != ssrc) {
                return ssrc;
            }
        }
    }

    /// The SSRCs that the configuration names.
    fn ssrcs(&self) -> impl Iterator<Item = u32> {
        let publisher = self.route.publisher.streams.iter();
        let overrides = self.route.subscribers.iter().flat_map(|subscriber| &subscriber.streams);
        publisher
            .flat_map(|stream| [stream.ssrc, stream.rtx.and_then(|rtx| rtx.ssrc), stream.fec.and_then(|fec| fec.ssrc)])
            .chain(overrides.flat_map(|differs| {
                let rtx = differs.rtx.flatten().and_then(|rtx| rtx.ssrc);
                [rtx, differs.fec.flatten().and_then(|fec| fec.ssrc)]
            }))
            .flatten()
    }

    /// Gives the opened route to its worker, with sockets.
    fn install(&self, opened: Opened, worker: &mut Worker, number: usize) -> Result<Vec<LegControl>, StartError> {
        let Opened { mut state, sessions } = opened;
        let route = worker.routes.len();
        let mut controls = Vec::new();
        for ((name, role, session), (_, _, leg)) in sessions.into_iter().zip(self.legs()) {
            let sockets = Sockets::bind(leg, self.config.server.socket_buffer).map_err(|failed| {
                let message = format!("{} cannot be bound: {}", failed.address, failed.error);
                ConfigError::Invalid(vec![self.config.problem(&self.path(role).key(failed.key), message)])
            })?;
            let control = LegControl {
                name: name.clone(),
                worker: number,
                leg: worker.legs.len(),
                session,
                members: self.members(&name, leg),
                rtp: sockets.rtp.local(),
                rtcp: sockets.rtcp.as_ref().unwrap_or(&sockets.rtp).local(),
                forward_sender_reports: match role {
                    Role::Publisher => None,
                    Role::Subscriber(place) => self.route.subscribers[place].forward_sender_reports,
                },
            };
            let leg = LegState {
                name,
                route,
                role,
                session,
                sockets,
                peer: PeerLock::new(leg),
                counts: Default::default(),
                dirty: false,
            };
            let index = worker.add_leg(leg).map_err(StartError::System)?;
            match role {
                Role::Publisher => state.publisher = index,
                Role::Subscriber(place) => state.subscribers[place].leg = index,
            }
            controls.push(control);
        }
        worker.routes.push(state);
        Ok(controls)
    }
}
