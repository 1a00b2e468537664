package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestWrongCallsSayHow: who calls a command wrongly sees on the next line how it is called, whichever command it is.
func TestWrongCallsSayHow(t *testing.T) {
	for call, want := range map[string]string{
		"explain":                "usage: berth explain ID [flags]",
		"images rm":              "usage: berth images rm REFERENCE… [flags]",
		"images rm --frobnicate": "unknown flag: --frobnicate\nusage: berth images rm REFERENCE… [flags]",
		"imagess":                "unknown command \"imagess\" for \"berth\" (is images meant?)\nusage: berth check|completion|config|explain|images|pull|serve|version\n",
		"help images lst":        "unknown command \"lst\" for \"berth images\" (is list meant?)",
		"help frobnicate":        "unknown command \"frobnicate\"",
		"frobnicate":             "unknown command \"frobnicate\" for \"berth\"\nusage: berth check|",
		"images lst":             "unknown command \"lst\" for \"berth images\" (is list meant?)\nusage: berth images export|import|list|prune|pull|rm|verify",
		"config chek":            "usage: berth config check|default, or berth config",
		"version now":            "usage: berth version [flags]",
		"--frobnicate":           "usage: berth ",
	} {
		out, err := run(t, strings.Fields(call)...)
		if err == nil || !strings.Contains(err.Error()+"\n", want) {
			t.Errorf("berth %s: %v, want %q\n%s", call, err, want, out)
		}
	}
	throughout(newRootCommand(), func(cmd *cobra.Command) {
		if cmd.Args == nil && cmd.Runnable() && cmd.Use == cmd.Name() {
			t.Errorf("%s takes any arguments and does nothing with them", cmd.CommandPath())
		}
	})
}

// TestHelpShowsFlagsThatMatter: of the flags that all commands take.
func TestHelpShowsFlagsThatMatter(t *testing.T) {
	for call, want := range map[string]struct{ has, lacks string }{
		"--help":             {"--cni-bin-dir", "shows the flags that all"},
		"serve --help":       {"--cni-bin-dir", "shows the flags that all"},
		"images list --help": {"--socket", "--cni-bin-dir"},
		"images --help":      {`"berth --help" shows the flags that all commands take`, "--keeper"},
		"help images":        {"help for images", "--cni-bin-dir"},
		"help":               {"--cni-bin-dir", "shows the flags that all"},
		"explain --help":     {"--config", "--log-level"},
		"check --help":       {`"berth --help" shows`, "--config"},
	} {
		out, err := run(t, strings.Fields(call)...)
		if err != nil || !strings.Contains(out, want.has) || strings.Contains(out, want.lacks) {
			t.Errorf("berth %s: %v, wanted %q and not %q\n%s", call, err, want.has, want.lacks, out)
		}
	}
	if out, err := run(t, "--version"); err != nil || !strings.HasPrefix(out, "berth "+version) || !strings.HasSuffix(out, "\n") {
		t.Errorf("--version: %q, %v", out, err)
	}
	long, err := run(t, "version")
	if short, err2 := run(t, "--version"); err != nil || err2 != nil || long != short {
		t.Errorf("version: %q and %q, %v, %v", long, short, err, err2)
	}
}

func TestComplain(t *testing.T) {
	var out bytes.Buffer
	one, two := errors.New("one"), errors.New("two\nusage: berth two")
	complain(&out, errors.Join(one, errors.Join(two, fmt.Errorf("%w and %w", one, one))))
	if want := "berth: one\nberth: two\nusage: berth two\nberth: one and one\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
