"""Scale by simulation: what a run would do on more devices than anybody here has at hand."""
