package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/berth-runtime/berth/imagestore"
	"golang.org/x/sys/unix"
)

// parseCredentials reads USER:PASSWORD, or USER, whose password is the first line of in: a command line is for all
// of the machine to read. "" gives nil, the node's own credentials.
func parseCredentials(ctx context.Context, text string, in *os.File) (*imagestore.Auth, error) {
	if text == "" {
		return nil, nil
	}
	user, password, found := strings.Cut(text, ":")
	if user == "" {
		return nil, errors.New("--creds: no user name before the colon")
	}
	if !found {
		line, err := readSecret(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("--creds: read password of %s: %w", user, err)
		}
		password = line
	}
	return &imagestore.Auth{Username: user, Password: password}, nil
}

// readSecret reads a line, which a terminal doesn't show. It returns when ctx ends, which is how SIGINT comes: else the first one would do
// nothing, and the second leave a terminal that shows nothing any more.
func readSecret(ctx context.Context, in *os.File) (string, error) {
	fd := int(in.Fd())
	if mode, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		silent := *mode
		silent.Lflag &^= unix.ECHO
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
			return "", fmt.Errorf("hide what is typed: %w", err)
		}
		defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, mode) }()
		fmt.Fprint(os.Stderr, "password: ")
		defer fmt.Fprintln(os.Stderr)
	}
	lines, failed := make(chan string, 1), make(chan error, 1)
	go func() { // ends with the line, or with the command
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && (!errors.Is(err, io.EOF) || line == "") {
			failed <- err
			return
		}
		lines <- strings.TrimRight(line, "\r\n")
	}()
	select {
	case line := <-lines:
		return line, nil
	case err := <-failed:
		return "", err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
