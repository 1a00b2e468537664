package main

import (
	"bufio"
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
func parseCredentials(text string, in *os.File) (*imagestore.Auth, error) {
	if text == "" {
		return nil, nil
	}
	user, password, found := strings.Cut(text, ":")
	if user == "" {
		return nil, errors.New("--creds: no user name before the colon")
	}
	if !found {
		line, err := readSecret(in)
		if err != nil {
			return nil, fmt.Errorf("--creds: read password of %s: %w", user, err)
		}
		password = line
	}
	return &imagestore.Auth{Username: user, Password: password}, nil
}

// readSecret reads a line, which a terminal doesn't show.
func readSecret(in *os.File) (string, error) {
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
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
