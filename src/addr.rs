//! [`Addr`]: where a server listens and who its peers are.

mod scheme;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::one_line::one_line;

pub use scheme::Scheme;

/// The address of a socket, with the kind of socket that it belongs to.
///
/// It is parsed from and printed as a URL:
///
/// | text | socket |
/// |---|---|
/// | `tcp://127.0.0.1:9999`, `tcp://[::1]:0`, `tcp://[fe80::1%eth0]:9999`, `tcp://localhost:9999` | TCP |
/// | `udp://127.0.0.1:9999` | UDP |
/// | `unix:///run/echo.sock`, `unix://@name` | Unix stream: a path, a Linux abstract name |
/// | `unixgram:///run/echo.sock`, `unixgram://@name` | Unix datagram |
/// | `127.0.0.1:9999` | TCP, the scheme being left out |
///
/// Parsing resolves a host name with the system's resolver, which may block, and takes the first address that it
/// gives: for `localhost`, that of one family. All interfaces are `0.0.0.0`, or `[::]` for both families.
///
/// What is printed parses to the same address, except for names that are empty, are not UTF-8 or have control characters (which are
/// printed escaped), relative paths that begin with `@`, IPv6 flow labels, and sockets without a name.
///
/// ```
/// use socketserver::Addr;
///
/// let addr: Addr = "tcp://[::1]:9999".parse()?;
/// assert_eq!(addr.to_string(), "tcp://[::1]:9999");
/// assert_eq!("127.0.0.1:80".parse::<Addr>()?, Addr::Tcp("127.0.0.1:80".parse().unwrap()));
///
/// let error = "http://127.0.0.1".parse::<Addr>().unwrap_err();
/// assert!(error.to_string().contains("tcp://HOST:PORT"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addr {
    /// A TCP endpoint.
    Tcp(SocketAddr),
    /// A UDP endpoint.
    Udp(SocketAddr),
    /// A Unix stream socket.
    Unix(UnixName),
    /// A Unix datagram socket.
    Unixgram(UnixName),
}

impl Addr {
    /// The kind of socket that this is an address of.
    pub fn scheme(&self) -> Scheme {
        match self {
            Addr::Tcp(_) => Scheme::Tcp,
            Addr::Udp(_) => Scheme::Udp,
            Addr::Unix(_) => Scheme::Unix,
            Addr::Unixgram(_) => Scheme::Unixgram,
        }
    }

    /// The IP address and port, unless this is a Unix address.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Tcp(addr) | Addr::Udp(addr) => Some(*addr),
            Addr::Unix(_) | Addr::Unixgram(_) => None,
        }
    }

    /// The IP address, unless this is a Unix address. It is without the scope that tells on which interface an IPv6 address such as
    /// `fe80::1` is: to bind or to connect to one, take [`as_inet`](Addr::as_inet).
    pub fn ip(&self) -> Option<IpAddr> {
        self.as_inet().map(|addr| addr.ip())
    }

    /// The path, if this is a Unix address that has one.
    pub fn as_path(&self) -> Option<&Path> {
        match self {
            Addr::Unix(UnixName::Path(path)) | Addr::Unixgram(UnixName::Path(path)) => Some(path),
            _ => None,
        }
    }

    /// Whether nothing can be sent to this address because it has no name: an unbound Unix client's.
    pub fn is_unnamed(&self) -> bool {
        matches!(self, Addr::Unix(UnixName::Unnamed) | Addr::Unixgram(UnixName::Unnamed))
    }
}

/// The name of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UnixName {
    /// A path in the file system.
    Path(PathBuf),
    /// A name in Linux's abstract namespace, without the leading zero byte. It is gone with its socket.
    Abstract(Vec<u8>),
    /// No name: a client that did not bind.
    Unnamed,
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme();
        let url = match self {
            Addr::Tcp(addr) | Addr::Udp(addr) => format!("{scheme}://{addr}"),
            Addr::Unix(name) | Addr::Unixgram(name) => match name {
                UnixName::Path(path) => format!("{scheme}://{}", one_line(&path.to_string_lossy())),
                UnixName::Abstract(name) => format!("{scheme}://@{}", one_line(&String::from_utf8_lossy(name))),
                UnixName::Unnamed => format!("{scheme}://"),
            },
        };
        f.pad(&url)
    }
}

impl FromStr for Addr {
    type Err = io::Error;

    /// # Errors
    ///
    /// `InvalidInput` says which part is wrong and what was expected; a name that does not resolve gives the
    /// resolver's error with the name in front.
    fn from_str(text: &str) -> io::Result<Addr> {
        text.to_addr(Scheme::Tcp)
    }
}

/// What [`Server::bind`](crate::Server::bind) takes as an address: text, a [`SocketAddr`], a path, an [`Addr`], or `(host, port)`, where
/// the host is text or an [`IpAddr`].
///
/// What does not say its kind of socket gets the listener's: `"127.0.0.1:9999"` is a UDP address to a UDP server.
pub trait ToAddr {
    /// The address, of kind `scheme` if it does not say which.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the text is no address; the resolver's error for an unknown host.
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr>;
}

impl ToAddr for str {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        let Some((name, rest)) = self.split_once("://") else {
            return scheme.parse(self);
        };
        let known = [Scheme::Tcp, Scheme::Udp, Scheme::Unix, Scheme::Unixgram];
        match known.into_iter().find(|scheme| scheme.name() == name) {
            Some(scheme) => scheme.parse(rest),
            None => Err(invalid(format!(
                "unknown scheme {name:?}: expected tcp://HOST:PORT, udp://HOST:PORT, unix:///PATH or unixgram:///PATH"
            ))),
        }
    }
}

impl ToAddr for String {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        self.as_str().to_addr(scheme)
    }
}

impl ToAddr for Addr {
    fn to_addr(&self, _: Scheme) -> io::Result<Addr> {
        Ok(self.clone())
    }
}

impl ToAddr for SocketAddr {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        match scheme {
            Scheme::Udp => Ok(Addr::Udp(*self)),
            Scheme::Tcp => Ok(Addr::Tcp(*self)),
            unix => Err(invalid(format!("expected a path for a {unix} socket, not {self}"))),
        }
    }
}

impl ToAddr for (&str, u16) {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        resolve(self.0, self.1)?.to_addr(scheme)
    }
}

impl ToAddr for (String, u16) {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        (self.0.as_str(), self.1).to_addr(scheme)
    }
}

macro_rules! ip_and_port {
    ($($ip:ty)*) => {
        $(impl ToAddr for ($ip, u16) {
            fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
                SocketAddr::from(*self).to_addr(scheme)
            }
        })*
    };
}

ip_and_port! { IpAddr Ipv4Addr Ipv6Addr }

impl ToAddr for Path {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        let name = UnixName::Path(self.to_path_buf());
        match scheme {
            Scheme::Unix => Ok(Addr::Unix(name)),
            Scheme::Unixgram => Ok(Addr::Unixgram(name)),
            inet => Err(invalid(format!("expected HOST:PORT for a {inet} socket, not the path {}", self.display()))),
        }
    }
}

impl ToAddr for PathBuf {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        self.as_path().to_addr(scheme)
    }
}

impl<T: ToAddr + ?Sized> ToAddr for &T {
    fn to_addr(&self, scheme: Scheme) -> io::Result<Addr> {
        (**self).to_addr(scheme)
    }
}

/// Reads `HOST:PORT`. A literal is tried first, so that it costs no resolver and keeps an IPv6 scope.
fn parse_inet(text: &str) -> io::Result<SocketAddr> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let expected =
        || invalid(format!("bad address {text:?}: expected HOST:PORT, such as 127.0.0.1:9999 or [::1]:9999"));
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let scoped = scoped(host);
    if scoped.is_none() && host.contains([':', '/', '[', ']']) {
        return Err(expected());
    }
    let port = port.parse().map_err(|_| invalid(format!("bad port {port:?} in {text:?}: expected 0 to 65535")))?;
    resolve(scoped.unwrap_or(host), port)
}

/// What is in the brackets of an IPv6 address whose scope is the name of an interface, which only the resolver knows.
fn scoped(host: &str) -> Option<&str> {
    let host = host.strip_prefix('[')?.strip_suffix(']')?;
    let (ip, _) = host.split_once('%')?;
    ip.parse::<Ipv6Addr>().ok().map(|_| host)
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    if host.is_empty() {
        // Python's word for it, and Go's. The resolver would only say that it knows no such name.
        return Err(invalid("the host is missing: for all interfaces, say 0.0.0.0 or [::]"));
    }
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("cannot resolve {host:?}: {error}"));
    let first = (host, port).to_socket_addrs().map_err(explain)?.next();
    first.ok_or_else(|| invalid(format!("cannot resolve {host:?}: it has no address")))
}

fn parse_unix(text: &str) -> io::Result<UnixName> {
    match text.strip_prefix('@') {
        Some("") => Err(invalid("an abstract name is empty: expected unix://@NAME")),
        Some(name) => Ok(UnixName::Abstract(name.as_bytes().to_vec())),
        None if text.is_empty() => Err(invalid("the path is missing: expected unix:///PATH or unixgram:///PATH")),
        None => Ok(UnixName::Path(PathBuf::from(text))),
    }
}

/// An IPv4 client of a dual-stack socket appears as `::ffff:1.2.3.4`; its users know it as `1.2.3.4`.
pub(crate) fn unmap_v4(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => addr,
        },
        SocketAddr::V4(_) => addr,
    }
}

/// The other direction: how a dual-stack socket must spell an IPv4 peer to send to it.
pub(crate) fn map_v4(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => addr,
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> io::Result<Addr> {
        text.parse()
    }

    #[test]
    fn every_scheme_parses_and_prints() {
        for text in [
            "tcp://127.0.0.1:9999",
            "tcp://[::1]:0",
            "udp://0.0.0.0:53",
            "unix:///tmp/a b.sock",
            "unix://@abstract",
            "unixgram:///tmp/x",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("127.0.0.1:1").unwrap().to_string(), "tcp://127.0.0.1:1");
        assert_eq!(parse("[::1]:1").unwrap().to_string(), "tcp://[::1]:1");
        assert!(parse("localhost:9999").unwrap().ip().unwrap().is_loopback());
        assert_eq!(Addr::Unixgram(UnixName::Unnamed).to_string(), "unixgram://");
    }

    #[test]
    fn a_name_writes_no_line_of_its_own() {
        let name = b"a b\nrefused tcp://127.0.0.1:80\x1b[2J".to_vec();
        let text = r"unixgram://@a b\nrefused tcp://127.0.0.1:80\u{1b}[2J";
        assert_eq!(Addr::Unixgram(UnixName::Abstract(name)).to_string(), text);
        assert_eq!(Addr::Unix(UnixName::Path("/tmp/\r".into())).to_string(), r"unix:///tmp/\r");
    }

    #[test]
    fn a_column_of_addresses_is_as_wide_as_asked_for() {
        let addr = parse("tcp://[::1]:80").unwrap();
        assert_eq!(format!("{addr:16}|{addr:>16}|{addr:.5}|"), "tcp://[::1]:80  |  tcp://[::1]:80|tcp:/|");
        assert_eq!(format!("{:9}|{:>9}|", Scheme::Tcp, Scheme::Unixgram), "tcp      | unixgram|");
    }

    #[test]
    fn a_bad_address_says_what_was_expected() {
        for (text, expected) in [
            ("", "HOST:PORT"),
            ("127.0.0.1", "HOST:PORT"),
            ("::1:80", "HOST:PORT"),
            (":80", "0.0.0.0 or [::]"),
            ("tcp://127.0.0.1:99999", "0 to 65535"),
            ("tcp://127.0.0.1:", "0 to 65535"),
            ("http://127.0.0.1:80", "tcp://HOST:PORT"),
            ("unix://", "unix:///PATH"),
            ("unix://@", "unix://@NAME"),
            ("no.such.host.invalid:1", "no.such.host.invalid"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?} gave {error:?}");
        }
    }

    /// Every Linux has this one.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_scope_may_be_the_name_of_an_interface() {
        let addr = parse("tcp://[fe80::1%lo]:80").unwrap();
        assert_eq!(addr, ("fe80::1%lo", 80).to_addr(Scheme::Tcp).unwrap());
        assert!(matches!(addr.as_inet(), Some(SocketAddr::V6(addr)) if addr.scope_id() != 0), "{addr}");
        assert!(parse("[fe80::1%no such one]:80").is_err() && parse("[fe80::1%]:80").is_err());
    }

    #[test]
    fn no_host_is_none_that_nobody_knows() {
        let error = ("", 80).to_addr(Scheme::Tcp).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("0.0.0.0 or [::]"), "{error}");
    }

    #[test]
    fn a_host_and_a_port_are_an_address_however_they_are_typed() {
        let v4 = Ipv4Addr::LOCALHOST;
        let same: [&dyn ToAddr; 4] = [&("127.0.0.1", 9), &("127.0.0.1".to_string(), 9), &(v4, 9), &(IpAddr::V4(v4), 9)];
        for addr in same {
            assert_eq!(addr.to_addr(Scheme::Udp).unwrap().to_string(), "udp://127.0.0.1:9");
        }
        assert_eq!((Ipv6Addr::LOCALHOST, 9).to_addr(Scheme::Tcp).unwrap().to_string(), "tcp://[::1]:9");
    }

    #[test]
    fn what_says_no_kind_gets_the_listeners() {
        assert_eq!("127.0.0.1:1".to_addr(Scheme::Udp).unwrap().scheme(), Scheme::Udp);
        assert_eq!("/tmp/x".to_addr(Scheme::Unixgram).unwrap().to_string(), "unixgram:///tmp/x");
        assert_eq!(Path::new("/tmp/x").to_addr(Scheme::Unix).unwrap().to_string(), "unix:///tmp/x");
        assert!(Path::new("/tmp/x").to_addr(Scheme::Tcp).is_err());
        assert!(("127.0.0.1", 1).to_addr(Scheme::Unix).is_err());
    }

    proptest! {
        #[test]
        fn any_inet_address_survives_printing(ip: IpAddr, port: u16, udp: bool) {
            let addr = SocketAddr::new(ip, port);
            let addr = if udp { Addr::Udp(addr) } else { Addr::Tcp(addr) };
            prop_assert_eq!(parse(&addr.to_string()).unwrap(), addr);
        }

        #[test]
        fn any_text_is_an_address_or_an_error(text in "(tcp://|udp://|unix://|unixgram://|)[^a-zA-Z]{0,40}") {
            if let Ok(addr) = parse(&text) {
                let same = parse(&addr.to_string()).is_ok_and(|again| again == addr);
                prop_assert!(same || text.contains(char::is_control));
            }
        }

        #[test]
        fn mapping_is_undone_by_unmapping(ip: std::net::Ipv4Addr, port: u16) {
            let addr = SocketAddr::new(ip.into(), port);
            prop_assert_eq!(unmap_v4(map_v4(addr)), addr);
        }
    }
}
