//! Store handles with their concrete types, for tables that come as a list of bindings.

use std::sync::Arc;

use lockstep::store::{ReadOptions, Store, Writer};
use lockstep_core::MigratableTable;
use lockstep_integration_logs::IntegrationLogs;
use lockstep_payments::Payments;
use lockstep_postgres::TableBinding;

use crate::registry::Tables;

/// A handle on one of the sample's tables.
pub enum Handle {
    /// On the logs.
    Logs(Store<IntegrationLogs>),
    /// On the payments.
    Payments(Store<Payments>),
}

/// The handle on a table, with its settings; `None` for one that the sample does not know.
pub fn handle(tables: &Tables, binding: &TableBinding, writer: &Writer) -> Option<Handle> {
    let (writer, binding) = (writer.clone(), binding.clone());
    Some(match binding.name() {
        IntegrationLogs::NAME => {
            let table = IntegrationLogs { options: tables.integration_logs.options };
            Handle::Logs(Store::with_writer(writer, Arc::new(table), binding))
        }
        Payments::NAME => {
            let table = Payments { options: tables.payments.options };
            Handle::Payments(Store::with_writer(writer, Arc::new(table), binding))
        }
        _ => return None,
    })
}

impl Handle {
    /// Says how it reads.
    pub fn configure_reads(&self, options: &ReadOptions) {
        match self {
            Self::Logs(store) => store.reads().configure(options),
            Self::Payments(store) => store.reads().configure(options),
        }
    }
}
