// Command judge is a plugin of the Node Resource Interface: the validator that comes with the interface's module. Its
// configuration is JSON, of the module's DefaultValidatorConfig.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	validator "github.com/containerd/nri/plugins/default-validator"
)

type judge struct {
	*validator.DefaultValidator
}

func (j judge) Configure(_ context.Context, config, _, _ string) (api.EventMask, error) {
	var c validator.DefaultValidatorConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return 0, fmt.Errorf("read configuration: %w", err)
	}
	j.SetConfig(&c)
	return 0, nil // all that it can do
}

func main() {
	s, err := stub.New(judge{validator.NewDefaultValidator(&validator.DefaultValidatorConfig{})})
	if err == nil {
		err = s.Run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}
