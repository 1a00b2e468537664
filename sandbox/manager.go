package sandbox

// Manager runs pods and containers. Its methods may be called concurrently.
type Manager struct{}
