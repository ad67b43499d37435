//! Plugins: loading a component, and what it says about itself.

use std::sync::Arc;

use serde::Serialize;
use sha2::Digest as _;
use wasmtime::component::{Component, InstancePre};

use crate::binding::Binds;
use crate::bindings::{BatchLaneIndices, InterceptorIndices, describe};
use crate::chain::Limits;
use crate::engine::{CompileLimits, Engine};
use crate::fault::Fault;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::order::Place;
use crate::quarantine::Quarantine;
use crate::session::TenantId;
use crate::signature::{PublicKey, SignatureError, signers};
use crate::survey::{self, Survey, SurveyError};
use crate::tenant::{Holdings, Quotas, Tenant};
use crate::time::{Instant, WallClock};

/// The version of the contract that this host speaks.
pub const CONTRACT: &str = "0.1.0";

/// The sha256 of a component's bytes: what a plugin is known by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of a component.
    pub fn of(component: &[u8]) -> Self {
        Self(sha2::Sha256::digest(component).into())
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Bytes as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What an operator allows a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Grants {
    /// Send RTP of its own.
    pub emit_rtp: bool,
    /// Send RTCP of its own.
    pub emit_rtcp: bool,
    /// See payloads.
    pub read_media: bool,
    /// Ask for the wall clock.
    pub wall_clock: bool,
    /// Ask for random numbers, from the session's seed.
    pub randomness: bool,
    /// Write bytes to where the operator says.
    pub sink: bool,
    /// Import WASI for its language's runtime: no files, no network, no environment; its output goes to the log.
    pub wasi: bool,
}

impl Grants {
    /// Nothing: a plugin that looks at headers and publishes what it sees.
    pub const NONE: Self = Self {
        emit_rtp: false,
        emit_rtcp: false,
        read_media: false,
        wall_clock: false,
        randomness: false,
        sink: false,
        wasi: false,
    };

    /// Everything.
    pub const ALL: Self = Self {
        emit_rtp: true,
        emit_rtcp: true,
        read_media: true,
        wall_clock: true,
        randomness: true,
        sink: true,
        wasi: true,
    };

    /// The grants' names, as in configurations.
    pub const NAMES: [&str; 7] = ["emit-rtp", "emit-rtcp", "read-media", "wall-clock", "randomness", "sink", "wasi"];

    /// The grant with this name, to set.
    pub fn by_name(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "emit-rtp" => &mut self.emit_rtp,
            "emit-rtcp" => &mut self.emit_rtcp,
            "read-media" => &mut self.read_media,
            "wall-clock" => &mut self.wall_clock,
            "randomness" => &mut self.randomness,
            "sink" => &mut self.sink,
            "wasi" => &mut self.wasi,
            _ => return None,
        })
    }

    /// The names of what is in `self` and not in `granted`.
    pub fn beyond(mut self, mut granted: Self) -> Vec<&'static str> {
        let has = |grants: &mut Self, name| grants.by_name(name).is_some_and(|grant| *grant);
        Self::NAMES.into_iter().filter(|name| has(&mut self, name) && !has(&mut granted, name)).collect()
    }
}

impl Default for Grants {
    /// What works on packets and leaves nothing behind: everything but media, a sink and WASI.
    fn default() -> Self {
        Self { read_media: false, sink: false, wasi: false, ..Self::ALL }
    }
}

/// One key of a plugin's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigOption {
    /// The key.
    pub key: String,
    /// What it does.
    pub summary: String,
    /// Its unit; empty where there is none.
    pub unit: String,
    /// The default, JSON.
    pub default: String,
    /// What is allowed.
    pub allowed: String,
    /// Where the default comes from.
    pub source: String,
}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One line.
    pub summary: String,
    /// Its station in a chain.
    pub place: Place,
    /// What it wants to be granted. `wasi` follows from its imports.
    pub wants: Grants,
    /// It reads media where that is granted, and does without where it is not. `wants` has it where it is.
    pub may_read_media: bool,
    /// What it is asked about.
    pub binds: Binds,
    /// Its configuration.
    pub options: Vec<ConfigOption>,
}

/// How packets reach a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lane {
    /// A call per packet.
    Typed,
    /// A call per burst.
    Batched,
}

/// Why a component is not a plugin that this host runs.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not a component, or not one of this contract.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// A signature in it is not one of it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// It is larger than the operator allows.
    #[error("the component has {have} {what}, and at most {limit} are compiled")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        have: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// It imports what the contract does not have.
    #[error("the component imports {}, which this host does not offer", .0.join(", "))]
    UnknownImports(Vec<String>),
    /// It wants what the operator has not granted.
    #[error("the plugin {name} wants {}, which it is not granted; grant it to this plugin if you trust it with that", .missing.join(", "))]
    NotGranted {
        /// The plugin.
        name: String,
        /// The grants that are missing.
        missing: Vec<&'static str>,
    },
    /// It imports an interface that its description does not want.
    #[error("the plugin {name} imports {import} without wanting it in its description")]
    Unwanted {
        /// The plugin.
        name: String,
        /// The import.
        import: String,
    },
    /// It does not compile, or its functions have other types than the contract's.
    #[error("the component does not compile or fit the contract: {0}")]
    Compile(String),
    /// It failed while describing itself.
    #[error("the plugin fails to describe itself: {0}")]
    Describe(String),
    /// What it says about itself cannot be.
    #[error("the plugin describes itself wrongly: {0}")]
    Description(String),
}

/// A loaded plugin, compiled and checked, not yet running. A copy costs a reference count.
#[derive(Clone)]
pub struct Plugin(Arc<Inner>);

struct Inner {
    code: Arc<Code>,
    description: Description,
    survey: Survey,
    digest: Digest,
    signers: Vec<PublicKey>,
    size: usize,
}

/// A component compiled and linked: what an instance is made from.
pub(crate) struct Code {
    pub(crate) engine: Engine,
    /// What the operator granted, for what is asked for at run time.
    pub(crate) granted: Grants,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) typed: InterceptorIndices,
    pub(crate) batched: Option<BatchLaneIndices>,
    pub(crate) quarantine: Quarantine,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({})", self.name(), self.version(), self.0.digest)
    }
}

impl Plugin {
    /// Compiles a component, or takes its code from the cache, and asks it for its description. Refuses what is not a
    /// component of this contract, what has a wrong signature and what wants more than `granted`. Takes time: not for a
    /// thread that carries media.
    pub fn load(engine: &Engine, component: &[u8], granted: &Grants) -> Result<Self, LoadError> {
        let survey = survey_within(component, &engine.0.config.compile)?;
        let signers = signers(component)?;
        if !survey.unknown_imports.is_empty() {
            return Err(LoadError::UnknownImports(survey.unknown_imports));
        }
        let digest = Digest::of(component);
        if survey.imports_wasi && !granted.wasi {
            let name = format!("with digest {digest}");
            return Err(LoadError::NotGranted { name, missing: vec!["wasi"] });
        }
        let refuse = |error: wasmtime::Error| LoadError::Compile(format!("{error:#}"));
        let compiled = compile(engine, component, digest).map_err(refuse)?;
        let linker = if survey.imports_wasi { &engine.0.with_wasi } else { &engine.0.contract };
        let pre = linker.instantiate_pre(&compiled).map_err(refuse)?;
        let typed = InterceptorIndices::new(&pre).map_err(refuse)?;
        let batched = survey.batched.then(|| BatchLaneIndices::new(&pre)).transpose().map_err(refuse)?;
        let quarantine = Quarantine::default();
        let code = Arc::new(Code { engine: engine.clone(), granted: *granted, pre, typed, batched, quarantine });
        let description = admit(describe(&code)?, &survey, *granted)?;
        let size = component.len();
        Ok(Self(Arc::new(Inner { code, description, survey, digest, signers, size })))
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.0.description.name
    }

    /// The plugin's version.
    pub fn version(&self) -> &str {
        &self.0.description.version
    }

    /// Who has signed the component. Who is to be trusted is the embedder's to say.
    pub fn signers(&self) -> &[PublicKey] {
        &self.0.signers
    }

    /// What it says about itself.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The sha256 of its component.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Bytes of its component.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// The interfaces it imports.
    pub fn imports(&self) -> &[String] {
        &self.0.survey.imports
    }

    /// How packets reach it.
    pub fn lane(&self) -> Lane {
        if self.0.code.batched.is_some() { Lane::Batched } else { Lane::Typed }
    }

    /// The same plugin, run in the typed lane: a call per packet, by the same contract. For comparing the lanes.
    pub fn in_typed_lane(&self) -> Self {
        let Inner { code, description, survey, digest, size, .. } = &*self.0;
        let Code { engine, granted, pre, typed, .. } = &**code;
        let (engine, pre, typed) = (engine.clone(), pre.clone(), typed.clone());
        let code = Code { engine, granted: *granted, pre, typed, batched: None, quarantine: Quarantine::default() };
        Self(Arc::new(Inner {
            code: Arc::new(code),
            description: description.clone(),
            survey: survey.clone(),
            signers: self.0.signers.clone(),
            digest: *digest,
            size: *size,
        }))
    }

    /// Whether it may see payloads.
    pub fn reads_media(&self) -> bool {
        self.0.description.wants.read_media
    }

    /// What it is asked about.
    pub(crate) fn binds(&self) -> Binds {
        self.0.description.binds
    }

    pub(crate) fn code(&self) -> &Arc<Code> {
        &self.0.code
    }

    /// Whether this version has failed so often for some tenant that it is not started again there.
    pub fn quarantined(&self) -> bool {
        self.0.code.quarantine.any()
    }

    /// Why it is in quarantine for this tenant, if it is.
    pub fn quarantine(&self, tenant: TenantId) -> Option<String> {
        self.0.code.quarantine.reason(tenant)
    }

    /// Lets a quarantined version be started again, for all tenants: with the next session or chain that has it, and where it
    /// was bypassed, once it is put in its own place.
    pub fn lift_quarantine(&self) {
        self.0.code.quarantine.lift();
    }

    /// Counts a fault of a session's; the reason when this one puts the version into quarantine.
    pub(crate) fn count_fault(&self, tenant: TenantId, fault: &Fault, session: &str) -> Option<String> {
        self.0.code.quarantine.count(tenant, fault, session)
    }
}

/// Checks the description against the imports and the grants.
fn admit(mut said: Description, survey: &Survey, granted: Grants) -> Result<Description, LoadError> {
    let name = said.name.clone();
    for import in &survey.imports {
        let grant = match survey::interface(import) {
            Some("random") => "randomness",
            Some(interface) => interface,
            None => continue,
        };
        if said.wants.by_name(grant).is_some_and(|wanted| !*wanted) {
            return Err(LoadError::Unwanted { name, import: import.clone() });
        }
    }
    said.wants.wasi = survey.imports_wasi;
    said.wants.read_media |= said.may_read_media && granted.read_media;
    match said.wants.beyond(granted) {
        missing if missing.is_empty() => Ok(said),
        missing => Err(LoadError::NotGranted { name, missing }),
    }
}

/// Looks at a component before the compiler does, and refuses what is larger than it may be.
pub(crate) fn survey_within(component: &[u8], limits: &CompileLimits) -> Result<Survey, LoadError> {
    let bounded = |what, have: usize, limit: usize| {
        if have > limit { Err(LoadError::TooLarge { what, have, limit }) } else { Ok(()) }
    };
    bounded("bytes", component.len(), limits.bytes)?;
    let survey = survey::survey(component)?;
    bounded("functions", survey.functions as usize, limits.functions as usize)?;
    bounded("modules", survey.modules as usize, limits.modules as usize)?;
    bounded("types", survey.types as usize, limits.types as usize)?;
    bounded("levels of nesting", survey.depth as usize, limits.depth as usize)?;
    Ok(survey)
}

fn compile(engine: &Engine, bytes: &[u8], digest: Digest) -> wasmtime::Result<Component> {
    let Some(cache) = &engine.0.config.cache else { return compile_anew(engine, bytes) };
    let name = format!("{digest}-{:016x}", engine.fingerprint());
    if let Some(code) = cache.load(&name)
        && let Some(component) = trusted(engine, &code)
    {
        return Ok(component);
    }
    let component = compile_anew(engine, bytes)?;
    if let Err(error) = cache.store(&name, &component.serialize()?) {
        tracing::warn!(%digest, %error, "compiled code is not cached");
    }
    Ok(component)
}

fn compile_anew(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    let Some(compiler) = engine.0.config.compiler else { return Component::from_binary(&engine.0.wasmtime, bytes) };
    let code = compiler(bytes, engine.0.config.fuel.is_some()).map_err(wasmtime::Error::msg)?;
    trusted(engine, &code).ok_or_else(|| wasmtime::Error::msg("what was compiled elsewhere is not for this engine"))
}

/// Code that the cache has authenticated as this host's own, or that its embedder's compiler gave.
#[expect(
    unsafe_code,
    reason = "the cache's key authenticates what this host itself compiled; a compiler is the embedder's"
)]
fn trusted(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `code` is what wasmtime gave for a component, byte for byte: under the same wasmtime, settings and processor (they
    // are part of the name that the cache's key authenticates), or from the embedder's own compiler, who vouches for it;
    // wasmtime refuses what was made under others.
    unsafe { Component::deserialize(&engine.0.wasmtime, code) }.ok()
}

fn describe(code: &Arc<Code>) -> Result<Description, LoadError> {
    let failed = |fault: Fault| LoadError::Describe(format!("{}: {}", fault.kind, fault.message));
    let nobody = Holdings::new(Tenant::new("nobody", Quotas::default()));
    let said =
        Instance::new(code, Limits::default(), WallClock::default(), Instant::ZERO, Default::default(), (nobody, 0))
            .and_then(|mut instance| instance.describe())
            .map_err(failed)?;
    let word = |what: &str, text: &str| {
        if !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(());
        }
        let shown: String = text.chars().take(80).collect();
        let allowed = "1 to 64 visible ASCII characters without spaces are allowed";
        Err(LoadError::Description(format!("its {what} is {shown:?}; {allowed}")))
    };
    word("name", &said.name)?;
    word("version", &said.version)?;
    if said.summary.len() > 1000 || said.options.len() > 256 {
        let allowed = "a summary has at most 1000 bytes, and there are at most 256 options";
        return Err(LoadError::Description(allowed.to_owned()));
    }
    Ok(said.into())
}

impl From<describe::Description> for Description {
    fn from(said: describe::Description) -> Self {
        use describe::{Binds as Bind, Place as Said, Wants};
        let wants = |flag| said.wants.contains(flag);
        let binds = |flag| said.binds.contains(flag);
        Self {
            wants: Grants {
                emit_rtp: wants(Wants::EMIT_RTP),
                emit_rtcp: wants(Wants::EMIT_RTCP),
                read_media: wants(Wants::READ_MEDIA),
                wall_clock: wants(Wants::WALL_CLOCK),
                randomness: wants(Wants::RANDOMNESS),
                sink: wants(Wants::SINK),
                wasi: false,
            },
            may_read_media: wants(Wants::MAY_READ_MEDIA),
            binds: Binds {
                rtcp_reader: binds(Bind::RTCP_READER),
                rtcp_writer: binds(Bind::RTCP_WRITER),
                local_streams: binds(Bind::LOCAL_STREAMS),
                remote_streams: binds(Bind::REMOTE_STREAMS),
            },
            name: said.name,
            version: said.version,
            summary: said.summary,
            place: match said.place {
                Said::SendHistory => Place::SendHistory,
                Said::Numbering => Place::Numbering,
                Said::Pacing => Place::Pacing,
                Said::Retransmission => Place::Retransmission,
                Said::RepairEncoding => Place::RepairEncoding,
                Said::RepairDecoding => Place::RepairDecoding,
                Said::LossDetection => Place::LossDetection,
                Said::ArrivalFeedback => Place::ArrivalFeedback,
                Said::Reports => Place::Reports,
                Said::EncoderRequests => Place::EncoderRequests,
                Said::Playout => Place::Playout,
                Said::Anywhere => Place::Anywhere,
            },
            options: said
                .options
                .into_iter()
                .map(|option| ConfigOption {
                    key: option.key,
                    summary: option.summary,
                    unit: option.unit,
                    default: option.default_value,
                    allowed: option.allowed,
                    source: option.source,
                })
                .collect(),
        }
    }
}
