package keeper

import (
	"context"
	"os"
)

// Client is the daemon's connection to its keeper. Its methods may be called concurrently.
type Client struct{}

// Connect connects to the keeper that serves cfg.Dir, or starts one.
func Connect(ctx context.Context, cfg Config) (*Client, error) { return nil, ErrClosed }

// Kept returns what the keeper held when Connect connected.
func (c *Client) Kept() []Kept { return nil }

// Launch runs a program. A failed step is an error that wraps *launch.StepError.
func (c *Client) Launch(ctx context.Context, l Launch) (*Process, error) { return nil, ErrClosed }

// Exits returns the ends of all processes.
func (c *Client) Exits() <-chan Exit { return nil }

// Wait blocks until the process under key has ended.
func (c *Client) Wait(ctx context.Context, key string) (Exit, error) { return Exit{}, ErrClosed }

// Hold keeps descriptors under a key.
func (c *Client) Hold(ctx context.Context, key string, files map[string]*os.File) error {
	return ErrClosed
}

// Forget drops what is kept under key.
func (c *Client) Forget(ctx context.Context, key string) error { return ErrClosed }

// Reopen makes log the process's log file.
func (c *Client) Reopen(ctx context.Context, key string, log *os.File) error { return ErrClosed }

// PID returns the keeper's process id.
func (c *Client) PID() int { return 0 }

// Close disconnects; the keeper goes on.
func (c *Client) Close() error { return nil }

// Shutdown ends the keeper when it keeps nothing.
func (c *Client) Shutdown(ctx context.Context) error { return ErrClosed }
