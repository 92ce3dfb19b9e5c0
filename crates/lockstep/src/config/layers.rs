//! Origins of values: file, profile, environment, flags.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::legacy::Legacy;
use super::writers::Writers;
use super::{ConfigError, DECLARED, ENV_PREFIX, ENVIRONMENT, FILE, Registry};

/// Inputs from which the layers are read. [`Inputs::of_process`] reads the real environment; tests bring
/// their own.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// The file that `--config` names.
    pub file: Option<PathBuf>,
    /// Folder in which [`FILE`] is looked for when `--config` names none; nowhere if `None`.
    pub folder: Option<PathBuf>,
    /// The profile of the file.
    pub profile: Option<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Flags that set a key.
    pub flags: Vec<Setting>,
}

/// A flag and the key that it sets.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key, with dots.
    pub key: &'static str,
    /// Value of the key.
    pub value: Value,
}

impl Setting {
    /// Makes a setting, if the flag was given.
    ///
    /// ```
    /// use lockstep::config::Setting;
    ///
    /// let (region, endpoint) = (Some("eu-central-1"), None::<&str>); // what a program's own flags say
    /// let settings = [Setting::of("target.region", region), Setting::of("target.endpoint_url", endpoint)];
    /// let given: Vec<&str> = settings.iter().flatten().map(|setting| setting.key).collect();
    /// assert_eq!(given, ["target.region"]);
    /// ```
    pub fn of(key: &'static str, value: Option<impl Into<Value>>) -> Option<Self> {
        value.map(|value| Self { key, value: value.into() })
    }
}

impl Inputs {
    /// Returns the inputs of this process: `lockstep.toml` in the working directory unless `file` names
    /// another, the environment, and `flags`.
    ///
    /// ```
    /// use lockstep::config::Inputs;
    ///
    /// // The file in this folder, its profile `staging` over it, the environment over both, and no flags.
    /// let inputs = Inputs::of_process(None, Some("staging".to_owned()), Vec::new());
    /// assert_eq!(inputs.profile.as_deref(), Some("staging"));
    /// ```
    pub fn of_process(file: Option<PathBuf>, profile: Option<String>, flags: Vec<Setting>) -> Self {
        // A variable that is not Unicode cannot be ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { file, folder: Some(PathBuf::from(".")), profile, environment: environment.collect(), flags }
    }

    fn path(&self) -> Result<Option<PathBuf>, ConfigError> {
        match (&self.file, &self.folder) {
            (Some(file), _) if !file.is_file() => {
                Err(ConfigError::one(format!("--config {}: there is no such file", file.display())))
            }
            (Some(file), _) => Ok(Some(file.clone())),
            (None, Some(folder)) => Ok(Some(folder.join(FILE)).filter(|path| path.is_file())),
            (None, None) => Ok(None),
        }
    }
}

/// Kind of a section `[tables.NAME]`.
#[derive(Clone, Copy, Debug)]
pub struct Sorting<'a> {
    /// The tables that the program knows.
    pub registry: &'a Registry,
    /// Keys that only a declaration has; `None` leaves out every table that is not registered, as an
    /// application does, which has no store handle for one.
    pub declared_keys: Option<&'a [&'a str]>,
}

/// All layers, one over the other.
#[derive(Debug)]
pub struct Gathered {
    /// The values.
    pub figment: Figment,
    /// Users who may write the file that was read, if there was one.
    pub file: Option<Writers>,
}

impl Gathered {
    /// Refuses `commands` that others may have written, and places that they may have chosen.
    ///
    /// # Errors
    /// As [`Writers::refuse`].
    pub fn refuse_of_others<'a>(
        &self,
        commands: impl IntoIterator<Item = Option<&'a String>>,
    ) -> Result<(), ConfigError> {
        let commands: Vec<&str> = commands.into_iter().flatten().map(String::as_str).collect();
        let Some(file) = &self.file else { return Ok(()) };
        file.refuse(&commands)?;
        file.refuse_places(&self.figment)
    }
}

/// Puts the layers over the `defaults`. `check` is asked of each profile by itself.
///
/// # Errors
/// Values that do not read, each with its key and origin.
pub fn gather(
    defaults: Figment,
    inputs: &Inputs,
    sorting: Sorting<'_>,
    check: &dyn Fn(&Figment) -> Result<(), ConfigError>,
) -> Result<Gathered, ConfigError> {
    let mut figment = defaults.clone();
    let legacy = Legacy::of(&inputs.environment);
    legacy.tell();
    let texts = legacy.read.iter().map(|(key, (_, text))| (key.clone(), *text));
    let settings = as_meant(texts, |settings| {
        check(&defaults.clone().merge(Layer::of(legacy.metadata(), settings.iter().cloned()))).is_ok()
    });
    figment = figment.merge(Layer::of(legacy.metadata(), settings.into_iter()));
    let (mut replaced, mut writers) = (false, None);
    match (inputs.path()?, &inputs.profile) {
        (Some(path), profile) => {
            let (mut file, mut profiles, of_file) = read(&path)?;
            writers = Some(of_file);
            replaced =
                std::iter::once(&file).chain(profiles.values()).any(|layer| sorting.is_replaced_by(layer));
            std::iter::once(&mut file)
                .chain(profiles.values_mut())
                .for_each(|layer| sorting.sort(layer, replaced));
            figment = figment.merge(file);
            for layer in profiles.values() {
                // Also those that are not chosen today: their mistakes would otherwise wait for the day they
                // are.
                check(&defaults.clone().merge(layer))?;
            }
            if let Some(name) = profile {
                let layer = profiles.get(name).ok_or_else(|| no_profile(name, &path, profiles.keys()))?;
                figment = figment.merge(layer);
            }
        }
        (None, Some(name)) => {
            return Err(ConfigError::one(format!(
                "profile {name} needs a file: there is no {FILE} here, name one with --config"
            )));
        }
        (None, None) => {}
    }
    let reads = |settings: &[(String, Value)]| {
        let mut layer = environment(settings);
        sorting.sort(&mut layer, replaced);
        check(&figment.clone().merge(layer)).is_ok()
    };
    let mut over = [environment(&as_meant(of_ours(&inputs.environment), reads)), flags(&inputs.flags)];
    over.iter_mut().for_each(|layer| sorting.sort(layer, replaced));
    Ok(Gathered { figment: over.into_iter().fold(figment, Figment::merge), file: writers })
}

/// Returns the sections of a file, its profiles, and who may write it.
fn read(path: &Path) -> Result<(Layer, BTreeMap<String, Layer>, Writers), ConfigError> {
    let place = path.display();
    let failed = |error| ConfigError::one(format!("could not read {place}: {error}"));
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let writers = Writers::of(path, &file).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let mut sections = sections(&place.to_string(), &text)?;
    let mut profiles = BTreeMap::new();
    match sections.remove("profile") {
        None => {}
        Some(Value::Dict(_, tables)) => {
            for (name, value) in tables {
                let Value::Dict(_, values) = value else {
                    return Err(ConfigError::one(format!(
                        "profile.{name} in {place} must be a table: [profile.{name}.source] and so on"
                    )));
                };
                let metadata = Metadata::named(format!("{place}, profile {name}"));
                profiles.insert(name, Layer { metadata, values });
            }
        }
        Some(_) => {
            return Err(ConfigError::one(format!(
                "profile in {place} must hold tables: [profile.NAME.source] and so on"
            )));
        }
    }
    Ok((Layer { metadata: Metadata::named(place.to_string()), values: sections }, profiles, writers))
}

fn sections(place: &str, text: &str) -> Result<Dict, ConfigError> {
    Toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let why = punctuation_only(error.message());
        ConfigError::one(format!("{place} is not TOML: {}: {why}", line_and_column(text, start)))
    })
}

/// Returns the line and column of a byte of a text. The line itself may hold a password, and is not shown.
fn line_and_column(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    format!("line {}, column {}", before.matches('\n').count() + 1, line.chars().count() + 1)
}

/// Returns a parser's sentence, where only a sign that it expects is quoted: it may quote what was written as
/// well.
fn punctuation_only(sentence: &str) -> String {
    let parts = sentence.lines().collect::<Vec<_>>().join(", ");
    let told = parts.split('`').enumerate().map(|(n, part)| match n % 2 {
        1 if part.chars().any(char::is_alphanumeric) => "…",
        _ => part,
    });
    told.collect::<Vec<_>>().join("`")
}

/// Puts one text over the `defaults`.
///
/// # Errors
/// For a text that is not TOML.
pub fn over(defaults: Figment, text: &str, sorting: Sorting<'_>) -> Result<Figment, ConfigError> {
    let mut layer = Layer { metadata: Metadata::named("the text"), values: sections("the text", text)? };
    let replaced = sorting.is_replaced_by(&layer);
    sorting.sort(&mut layer, replaced);
    Ok(defaults.merge(layer))
}

fn no_profile<'a>(name: &str, path: &Path, known: impl Iterator<Item = &'a String>) -> ConfigError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    ConfigError::one(format!("there is no [profile.{name}] in {}; it has: {known}", path.display()))
}

/// Keys that the environment sets by their own names.
fn of_ours(variables: &[(String, String)]) -> impl Iterator<Item = (String, &str)> {
    variables.iter().filter_map(|(name, text)| {
        let key = name.strip_prefix(ENV_PREFIX)?.to_lowercase();
        // Every key is in a section; LOCKSTEP_PROFILE and LOCKSTEP_LOG are other things.
        key.contains("__").then(|| (key.replace("__", "."), text.as_str()))
    })
}

/// Values of variables. A variable is text; what looks like a number, a truth or a list is meant as one where
/// it is taken as one, and as the text that it is where only that reads: a prefix may be `123`.
fn as_meant<'a>(
    texts: impl Iterator<Item = (String, &'a str)>,
    reads: impl Fn(&[(String, Value)]) -> bool,
) -> Vec<(String, Value)> {
    let values = texts.map(|(key, text)| {
        let Ok(value) = text.parse::<Value>();
        let text = (key, Value::from(text));
        let value = (text.0.clone(), value);
        let is_text = matches!(value.1, Value::String(..));
        let meant = !is_text && !reads(std::slice::from_ref(&value)) && reads(std::slice::from_ref(&text));
        if meant { text } else { value }
    });
    values.collect()
}

fn environment(settings: &[(String, Value)]) -> Layer {
    let metadata = Metadata::named(ENVIRONMENT)
        .interpolater(|_, keys| format!("{ENV_PREFIX}{}", keys.join("__").to_uppercase()));
    Layer::of(metadata, settings.iter().cloned())
}

fn flags(settings: &[Setting]) -> Layer {
    let settings = settings.iter().map(|setting| (setting.key.to_owned(), setting.value.clone()));
    Layer::of(Metadata::named("the command line"), settings)
}

/// Values that are all from one place.
#[derive(Clone)]
struct Layer {
    metadata: Metadata,
    values: Dict,
}

impl Layer {
    fn of(metadata: Metadata, settings: impl Iterator<Item = (String, Value)>) -> Self {
        let mut values = Dict::new();
        for (key, value) in settings {
            if let Value::Dict(_, nested) = figment::util::nest(&key, value) {
                values = merge(values, nested);
            }
        }
        Self { metadata, values }
    }
}

impl Sorting<'_> {
    /// Tells whether a layer declares tables that move in place of the registered ones: it has a table that
    /// is not registered, or says of one what only a declaration says. Only the sample's tables give way.
    fn is_replaced_by(&self, layer: &Layer) -> bool {
        let (true, Some(keys)) = (self.registry.gives_way(), self.declared_keys) else { return false };
        let Some(Value::Dict(_, tables)) = layer.values.get("tables") else { return false };
        let says = |section: &Dict| section.keys().any(|key| keys.contains(&key.as_str()));
        tables.iter().any(|(name, section)| !self.registry.has(name) || section.as_dict().is_some_and(says))
    }

    /// Puts sections of tables that are not registered, or all where they replace those, with the declared
    /// ones, or leaves them out.
    fn sort(&self, layer: &mut Layer, replaced: bool) {
        let (tag, tables) = match layer.values.remove("tables") {
            Some(Value::Dict(tag, tables)) => (tag, tables),
            // It is no section, and is refused as what it is.
            Some(other) => return drop(layer.values.insert("tables".to_owned(), other)),
            None => return,
        };
        let (registered, others): (Dict, Dict) =
            tables.into_iter().partition(|(name, _)| !replaced && self.registry.has(name));
        layer.values.insert("tables".to_owned(), Value::Dict(tag, registered));
        if self.declared_keys.is_some() && !others.is_empty() {
            layer.values.insert(DECLARED.to_owned(), Value::Dict(tag, others));
        }
    }
}

fn merge(mut into: Dict, from: Dict) -> Dict {
    for (key, value) in from {
        let value = match (into.remove(&key), value) {
            (Some(Value::Dict(tag, old)), Value::Dict(_, new)) => Value::Dict(tag, merge(old, new)),
            (_, value) => value,
        };
        into.insert(key, value);
    }
    into
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}
