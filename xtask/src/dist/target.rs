//! What is built: the machines, their C libraries, and the formats that are packed for each.

use clap::ValueEnum;

/// A machine and its C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// x86-64 with the GNU C library
    #[value(name = "x86_64")]
    X86_64,
    /// x86-64, static
    #[value(name = "x86_64-static")]
    X86_64Static,
    /// 64-bit ARM with the GNU C library
    #[value(name = "aarch64")]
    Aarch64,
}

/// What the files of a program are packed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Deb,
    Rpm,
    Apk,
    Arch,
    /// An archive to unpack, and the layer of the container image.
    Tar,
}

impl Target {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::X86_64, Self::X86_64Static, Self::Aarch64];

    /// Its name to rustc.
    pub(super) const fn triple(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::X86_64Static => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Its name in file names.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::X86_64Static => "x86_64-static",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The machine as Debian and nfpm name it.
    pub(super) const fn debian(self) -> &'static str {
        match self {
            Self::X86_64 | Self::X86_64Static => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Alpine's C library is musl, and Arch Linux is x86-64 only.
    pub(super) const fn formats(self) -> &'static [Format] {
        match self {
            Self::X86_64 => &[Format::Deb, Format::Rpm, Format::Arch, Format::Tar],
            Self::X86_64Static => &[Format::Apk, Format::Tar],
            Self::Aarch64 => &[Format::Deb, Format::Rpm, Format::Tar],
        }
    }

    /// Whether its program needs no library of the host.
    pub(super) fn is_static(self) -> bool {
        self == Self::X86_64Static
    }

    /// Whether its program runs on this machine.
    pub(super) fn is_native(self) -> bool {
        self.triple().starts_with(std::env::consts::ARCH)
    }

    /// The linker, its Debian package, and the binutils' prefix, where this machine's own do not do.
    pub(super) fn cross(self) -> Option<Cross> {
        (self == Self::Aarch64 && std::env::consts::ARCH != "aarch64").then_some(Cross {
            linker: "aarch64-linux-gnu-gcc",
            package: "gcc-aarch64-linux-gnu",
            libraries: "libc6-dev-arm64-cross",
            binutils: "aarch64-linux-gnu-",
        })
    }
}

/// The tools of a cross build.
pub(super) struct Cross {
    pub(super) linker: &'static str,
    pub(super) package: &'static str,
    pub(super) libraries: &'static str,
    pub(super) binutils: &'static str,
}

impl Format {
    /// Its name to nfpm, which does not make archives.
    pub(super) const fn packager(self) -> Option<&'static str> {
        match self {
            Self::Deb => Some("deb"),
            Self::Rpm => Some("rpm"),
            Self::Apk => Some("apk"),
            Self::Arch => Some("archlinux"),
            Self::Tar => None,
        }
    }

    /// Its name in paths.
    pub(super) const fn name(self) -> &'static str {
        match self.packager() {
            Some(name) => name,
            None => "tar",
        }
    }
}
