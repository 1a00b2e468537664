// Package cni attaches pods to the network.
package cni
