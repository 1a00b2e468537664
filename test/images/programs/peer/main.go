// peer serves the address that a request comes from, on port 80. "peer ask ADDRESS…" asks others for it, one line each.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "ask" {
		for _, address := range os.Args[2:] {
			fmt.Println(ask(address))
		}
		return
	}
	err := http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, host)
	}))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// ask returns the answer, or the error in one line.
func ask(address string) string {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + address + "/")
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return string(text)
}
