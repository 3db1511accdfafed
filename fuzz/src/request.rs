//! Any octets as a request on the control sockets of an engine and a Nucleus, and as what `omni`
//! is answered.

use omni_engine::show::{Reloaded, Show};
use omni_engine::stages::NodeStages;
use omni_nucleus::show::{Command, Done};

/// Runs the target.
pub fn run(octets: &[u8]) {
    if let Ok(command) = serde_json::from_slice::<omni_engine::runtime::request::Command>(octets) {
        let text = serde_json::to_vec(&command).expect("a command is JSON");
        let again = serde_json::from_slice::<omni_engine::runtime::request::Command>(&text);
        assert_eq!(again.ok(), Some(command));
    }
    if let Ok(command) = serde_json::from_slice::<Command>(octets) {
        let text = serde_json::to_vec(&command).expect("a command is JSON");
        assert_eq!(serde_json::from_slice::<Command>(&text).ok(), Some(command));
    }
    let _ = serde_json::from_slice::<Done>(octets);
    let _ = serde_json::from_slice::<Reloaded>(octets);
    let _ = serde_json::from_slice::<NodeStages>(octets);
    if let Ok(show) = serde_json::from_slice::<Show>(octets) {
        let text = serde_json::to_vec(&show).expect("what is shown is JSON");
        assert!(serde_json::from_slice::<Show>(&text).is_ok());
    }
}
