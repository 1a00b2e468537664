package main

import (
	"context"
	"fmt"
	"os"
	"sync"
)

// bed stands in for a test: the harness runs a daemon on it. A fatal error unwinds
// to protect, and what was to be cleaned up is cleaned up by close.
type bed struct {
	ctx context.Context

	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

// fatal is what Fatal panics with.
type fatal struct{}

func newBed(ctx context.Context) *bed { return &bed{ctx: ctx} }

// protect runs f and ends with it, or with the first fatal error in it.
func (b *bed) protect(f func()) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(fatal); !ok {
				panic(r)
			}
		}
	}()
	f()
}

func (b *bed) close() {
	for len(b.cleanups) > 0 {
		last := b.cleanups[len(b.cleanups)-1]
		b.cleanups = b.cleanups[:len(b.cleanups)-1]
		b.protect(last)
	}
}

// progress tells whoever waits what is being done.
func (b *bed) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// What harness.TB asks for.

func (b *bed) Helper()                  {}
func (b *bed) Name() string             { return "bench" }
func (b *bed) Context() context.Context { return b.ctx }

func (b *bed) Cleanup(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleanups = append(b.cleanups, f)
}

func (b *bed) Failed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

func (b *bed) Logf(format string, args ...any) { b.progress(format, args...) }
func (b *bed) Error(args ...any)               { b.Errorf("%s", fmt.Sprint(args...)) }
func (b *bed) Fatal(args ...any)               { b.Fatalf("%s", fmt.Sprint(args...)) }
func (b *bed) Skip(args ...any)                { b.Fatalf("%s", fmt.Sprint(args...)) }

func (b *bed) Errorf(format string, args ...any) {
	b.progress(format, args...)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = true
}

func (b *bed) Fatalf(format string, args ...any) {
	b.Errorf(format, args...)
	panic(fatal{})
}
