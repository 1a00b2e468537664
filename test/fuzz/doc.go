// Package fuzz sends requests of every method of CRI, good ones, mutilated ones and made up ones, to a running daemon: it must answer each,
// with an error that is the caller's where the fault is the caller's, and go on.
//
//	go test -run '^$' -fuzz FuzzRequests -fuzztime 10m ./test/fuzz
//
// The seeds, one for each method, run with the other tests. What a request may touch of the node is bounded (safe.go).
package fuzz
