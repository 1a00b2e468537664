package launch

// setThread has nothing to do: Go keeps its "g" in a register here.
//
//go:nosplit
//go:norace
func setThread(uintptr) {}
