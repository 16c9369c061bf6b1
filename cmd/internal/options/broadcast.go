package options

import (
	"context"
	"fmt"
	"net"
	"time"
)

// broadcastAuto is the value of --broadcast-address that means "some address of this machine that others can reach".
const broadcastAuto = "auto"

// resolveBroadcast turns "auto" and the name of a network interface into an address; anything else stays as it is. IPv4 goes before IPv6.
func resolveBroadcast(given string) (string, error) {
	var interfaces []net.Interface
	if given == broadcastAuto {
		all, err := net.Interfaces()
		if err != nil {
			return "", fmt.Errorf("--broadcast-address=auto: %w", err)
		}
		interfaces = all
	} else if i, err := net.InterfaceByName(given); err == nil {
		interfaces = []net.Interface{*i}
	} else {
		return given, nil // a name or an address
	}
	best := ""
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addresses, err := i.Addrs()
		if err != nil {
			return "", fmt.Errorf("--broadcast-address=%s: %w", given, err)
		}
		for _, a := range addresses {
			ip, ok := a.(*net.IPNet)
			if !ok || ip.IP.IsLinkLocalUnicast() || given == broadcastAuto && ip.IP.IsLoopback() {
				continue
			}
			if ip.IP.To4() != nil {
				return ip.IP.String(), nil
			}
			if best == "" {
				best = ip.IP.String()
			}
		}
	}
	if best == "" {
		return "", fmt.Errorf("--broadcast-address=%s: no network interface that is up has an address others could use", given)
	}
	return best, nil
}

// ResolveBroadcast turns a --broadcast-address that names an interface, or is "auto", into an address. Called once, after Validate.
func (o *Nsqd) ResolveBroadcast() (err error) {
	o.BroadcastAddress, err = resolveBroadcast(o.BroadcastAddress)
	return err
}

// ResolveBroadcast is that of Nsqd.
func (o *Nsqlookupd) ResolveBroadcast() (err error) {
	o.BroadcastAddress, err = resolveBroadcast(o.BroadcastAddress)
	return err
}

// broadcastLookup bounds how long a name is looked up for a warning.
const broadcastLookup = 5 * time.Second

// BroadcastWarning tells what is wrong with announcing address while serving on the given listeners; "" = nothing. It may look up a name, which
// takes up to five seconds.
func BroadcastWarning(ctx context.Context, address string, listeners []net.Addr) string {
	ctx, cancel := context.WithTimeout(ctx, broadcastLookup)
	defer cancel()
	ips := []net.IP{net.ParseIP(address)}
	if ips[0] == nil {
		found, err := net.DefaultResolver.LookupIP(ctx, "ip", address)
		if err != nil {
			return fmt.Sprintf("--broadcast-address %q cannot be resolved here (%s): clients that are told to connect to it will probably fail; "+
				"set an address that others can reach, or auto", address, err)
		}
		ips = found
	}
	for _, ip := range ips {
		if !ip.IsLoopback() {
			return ""
		}
	}
	for _, l := range listeners {
		if tcp, ok := l.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			return fmt.Sprintf("--broadcast-address %q is a loopback address, but clients are served on %s: other machines that are told to connect to it "+
				"will reach themselves; set an address that others can reach, or auto", address, l)
		}
	}
	return ""
}
