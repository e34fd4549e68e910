//! From the call to the end that is known.

use runtime_tests::{Bed, cases};

cases![the_workers_code_is_the_programs_code];

fn the_workers_code_is_the_programs_code(bed: &Bed) {
    for code in ["0", "1", "7", "255"] {
        let output = bed.run(&["--rm"], &["exit", code]).output();
        assert_eq!(output.code().to_string(), code, "{output}");
    }
}
