package nri

import (
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for key, change := range map[string]func(*Config){
		"socket":            func(c *Config) { c.Socket = "x" },
		"socket \"/":        func(c *Config) { c.Socket = "/" + strings.Repeat("x", 107) },
		"plugin_dir":        func(c *Config) { c.PluginDir = "/x" },
		"plugin_config_dir": func(c *Config) { c.PluginConfigDir = "x" },
		"request_timeout":   func(c *Config) { c.RequestTimeout = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// A node that lets no plugin in has none, and needs nothing of the module.
func TestNone(t *testing.T) {
	p, err := New(t.Context(), DefaultConfig(), "1.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	leave, any := p.Enter()
	leave()
	if any || p.Enabled() {
		t.Error("there is a plugin")
	}
	if err := p.Open(nil); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { leave, _ := p.Enter(); leave() }); n > 0 {
		t.Errorf("a step costs %v allocations", n)
	}
	p.Close()
}
