"""Which small faults in the code the tests notice: mutmut makes the mutants, this runs them."""
