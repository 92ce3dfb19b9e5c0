//! Every action stands for a file of the code.

use std::path::Path;

use lockstep_model::Action;

#[test]
fn the_file_that_an_action_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for action in Action::all() {
        let file = action.file();
        assert!(root.join(file).is_file(), "{action:?} stands for {file}, which is not there");
    }
}
