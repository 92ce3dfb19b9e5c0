//! Operations, as logs.

use lockstep::{Json, LogSink, OperationEvent, Stage};

use crate::row::IntegrationLog;
use crate::table::IntegrationLogs;

/// Logs start, success and failure of coordinated operations as integration logs of one service.
#[derive(Clone, Debug)]
pub struct OperationLogs {
    /// The service in whose name operations are made.
    pub service_name: String,
    /// On whose behalf.
    pub user_id: Option<String>,
    /// The loan application that the operations are about, if they are about one.
    pub application_id: Option<i32>,
}

impl OperationLogs {
    /// Logs of a service's operations.
    pub fn of(service_name: impl Into<String>) -> Self {
        Self { service_name: service_name.into(), user_id: None, application_id: None }
    }
}

impl LogSink for OperationLogs {
    type Table = IntegrationLogs;

    fn row(&self, event: &OperationEvent<'_>) -> IntegrationLog {
        let log_type = match event.stage {
            Stage::Start => "OperationStart",
            Stage::Success => "OperationSuccess",
            Stage::Failure => "OperationFailure",
        };
        let name = serde_json::json!({ "operation": event.name }).to_string();
        IntegrationLog {
            log_id: 0,
            application_id: self.application_id,
            log_type: log_type.to_owned(),
            service_name: self.service_name.clone(),
            request_data: Json::parse(&name).ok(),
            response_data: None,
            status_code: None,
            is_success: event.stage != Stage::Failure,
            error_message: event.message.map(str::to_owned),
            processing_time_ms: event
                .elapsed
                .map(|elapsed| i32::try_from(elapsed.as_millis()).unwrap_or(i32::MAX)),
            log_timestamp: event.at,
            correlation_id: Some(event.correlation_id.to_owned()),
            user_id: self.user_id.clone(),
        }
    }
}
