//! Kind that the type of a field names. A macro sees no types but their names.

use lockstep_template::{Alphabet, Form};
use syn::{GenericArgument, PathArguments, Type};

use crate::declared::{Column, Index, Table, Written};

/// The attribute that holds a table's sort key.
const SORT_KEY: &str = "SK";

/// Kind of value that keys can be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    /// A time with its zone: days and expiries go by it.
    Instant,
    /// A time without a zone.
    Timestamp,
    Date,
    Time,
    Uuid,
    Bytes,
    Boolean,
    Text,
    /// An enum, as far as its name tells: the code that is written asks the compiler.
    Label,
}

impl Kind {
    /// Returns the characters of which its text consists.
    pub(crate) fn alphabet(self) -> Alphabet {
        match self {
            Self::Integer => Alphabet::Integer,
            Self::Instant => Alphabet::Fixed(27),
            Self::Timestamp => Alphabet::Fixed(26),
            Self::Date => Alphabet::Fixed(10),
            Self::Time => Alphabet::Fixed(15),
            Self::Uuid => Alphabet::Fixed(36),
            Self::Boolean => Alphabet::Boolean,
            Self::Bytes | Self::Text | Self::Label => Alphabet::Text,
        }
    }

    /// Tells whether some value of it can be written in a form.
    pub(crate) fn fits(self, form: Form) -> bool {
        match form {
            Form::Date => matches!(self, Self::Instant | Self::Timestamp | Self::Date | Self::Text),
            Form::Padded(_) => matches!(self, Self::Integer | Self::Text),
            Form::Plain | Form::Upper | Form::Lower | Form::Escaped => true,
        }
    }
}

/// Types of columns that are no keys, and of which the compiler would say so in more words. `Number` and
/// `Document` are none of these: an enum of a table may be called so.
const NO_KEYS: [&str; 9] =
    ["Json", "Scaled", "Decimal", "f32", "f64", "Vec", "UuidBytes", "FloatText", "BTreeSet"];

/// Returns the last name of a type, and whether it is inside an `Option`. Bytes are `[u8]`.
fn named(ty: &Type) -> Option<(String, bool)> {
    let path = match ty {
        Type::Path(path) => path,
        // A macro put this together.
        Type::Group(group) => return named(&group.elem),
        Type::Paren(paren) => return named(&paren.elem),
        _ => return None,
    };
    let last = path.path.segments.last()?;
    if let PathArguments::AngleBracketed(arguments) = &last.arguments
        && let Some(GenericArgument::Type(inner)) = arguments.args.first()
    {
        if last.ident == "Option" {
            return named(inner).map(|(name, _)| (name, true));
        }
        if last.ident == "Vec" && named(inner).is_some_and(|(name, _)| name == "u8") {
            return Some(("[u8]".to_owned(), false));
        }
    }
    Some((last.ident.to_string(), false))
}

impl Column {
    /// Returns the kind of its values in a key; `None` where a key cannot be made of them.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match named(&self.ty)?.0.as_str() {
            "i16" | "i32" | "i64" => Some(Kind::Integer),
            "DateTime" => Some(Kind::Instant),
            "NaiveDateTime" => Some(Kind::Timestamp),
            "NaiveDate" => Some(Kind::Date),
            "NaiveTime" => Some(Kind::Time),
            "Uuid" => Some(Kind::Uuid),
            "[u8]" => Some(Kind::Bytes),
            "bool" => Some(Kind::Boolean),
            "String" => Some(Kind::Text),
            name if NO_KEYS.contains(&name) => None,
            _ => Some(Kind::Label),
        }
    }

    /// Tells whether it is an `Option`.
    pub(crate) fn may_be_null(&self) -> bool {
        named(&self.ty).is_some_and(|(_, optional)| optional)
    }
}

impl Table {
    /// Returns the column of that name.
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Returns the columns of the primary key.
    pub(crate) fn primary_key(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.primary_key).collect()
    }

    /// Returns the primary key, then the other columns of the table's own templates.
    pub(crate) fn key(&self) -> Vec<&Column> {
        let templates = [Some(&self.partition), self.sort.as_ref()];
        let named: Vec<&str> = templates.into_iter().flatten().flat_map(|t| t.template.columns()).collect();
        let others = self.columns.iter().filter(|c| !c.primary_key && named.contains(&c.name.as_str()));
        self.primary_key().into_iter().chain(others).collect()
    }

    /// Tells whether a template is nothing but a whole number, whose key is then a number.
    pub(crate) fn is_number(&self, written: &Written) -> bool {
        let column = written.template.bare_column().and_then(|name| self.column(name));
        column.and_then(Column::kind) == Some(Kind::Integer)
    }

    /// Returns the column that is the partition of an index by itself, as it is an attribute already. A
    /// boolean is none: DynamoDB has no such keys. Bytes are none: keys here are numbers and texts.
    pub(crate) fn indexed(&self, index: &Index) -> Option<&Column> {
        self.alone(&index.partition)
    }

    /// The same of any key of an index.
    pub(crate) fn alone(&self, written: &Written) -> Option<&Column> {
        let column = self.column(written.template.bare_column()?)?;
        column.kind().filter(|kind| !matches!(kind, Kind::Boolean | Kind::Bytes)).map(|_| column)
    }

    /// Returns the attribute that an index is sorted by, with the template that it is made of where it is no
    /// attribute already. An index by the primary key is not sorted: one item at most is in each partition.
    pub(crate) fn sorted_by<'a>(&'a self, index: &'a Index) -> Option<(String, &'a Written, bool)> {
        let own = self.sort.as_ref();
        match &index.sort {
            None => {
                let primary = self.primary_key();
                let is_by_id =
                    self.indexed(index).is_some_and(|column| column.primary_key && primary.len() == 1);
                own.filter(|_| !is_by_id).map(|sort| (SORT_KEY.to_owned(), sort, false))
            }
            Some(sort) if own.is_some_and(|own| own.template == sort.template) => {
                Some((SORT_KEY.to_owned(), sort, false))
            }
            Some(sort) => Some(match self.alone(sort) {
                Some(column) => (column.attribute.clone(), sort, false),
                None => (format!("{}_sk", index.name.value()), sort, true),
            }),
        }
    }

    /// Returns the attribute that is the partition of an index.
    pub(crate) fn attribute(&self, index: &Index) -> String {
        self.indexed(index)
            .map_or_else(|| format!("{}_pk", index.name.value()), |column| column.attribute.clone())
    }
}
