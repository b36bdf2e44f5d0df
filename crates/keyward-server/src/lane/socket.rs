//! A connection's bytes. tokio knows when some have come or may leave; the calls to the kernel are made without the C library, which
//! makes each of them a point where its thread could be cancelled: four atomic operations a request, for what Rust never does.

use std::future::poll_fn;
use std::io::{self, ErrorKind};

use rustix::buffer::spare_capacity;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

pub struct Socket(pub TcpStream);

impl Socket {
    /// Appends bytes that have come, as many as the buffer has room for; answers how many, which is none at the end.
    pub async fn read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut appended = None;
        loop {
            poll_fn(|context| self.0.poll_read_ready(context)).await?;
            let receive = || {
                let room = into.capacity() - into.len();
                let (count, _) = recv(&self.0, spare_capacity(into), RecvFlags::empty())?;
                appended = Some(count);
                // Where there was room for more, nothing is left: told as a read that found nothing, which spares that read.
                if (1..room).contains(&count) { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
            };
            if let Err(error) = self.0.try_io(Interest::READABLE, receive)
                && error.kind() != ErrorKind::WouldBlock
            {
                return Err(error);
            }
            if let Some(count) = appended {
                return Ok(count);
            }
        }
    }

    /// Sends all of the bytes.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.try_io(Interest::WRITABLE, || Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll_fn(|context| self.0.poll_write_ready(context)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> io::Result<(Socket, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (ours, theirs) = tokio::join!(listener.accept(), TcpStream::connect(listener.local_addr()?));
        Ok((Socket(ours?.0), theirs?))
    }

    #[tokio::test]
    async fn bytes_come_behind_those_that_are_there_up_to_the_end() -> io::Result<()> {
        let (socket, mut peer) = pair().await?;
        let mut held = Vec::with_capacity(4);
        held.push(b'_');
        let room = held.capacity() - 1;
        let sent: Vec<u8> = (0..100).collect();
        peer.write_all(&sent).await?;
        assert_eq!(socket.read(&mut held).await?, room);
        assert_eq!(held[1..], sent[..room]);
        held.reserve(200);
        assert_eq!(socket.read(&mut held).await?, 100 - room);
        assert_eq!((held[0], &held[1..]), (b'_', &*sent));
        // What comes later is waited for.
        let (count, written) = tokio::join!(socket.read(&mut held), peer.write_all(b"more"));
        assert_eq!((count?, written?), (4, ()));
        drop(peer);
        assert_eq!(socket.read(&mut held).await?, 0);
        assert!(held.ends_with(b"more"));
        Ok(())
    }

    #[tokio::test]
    async fn more_than_the_kernel_takes_at_once_is_sent_as_it_is_read() -> io::Result<()> {
        let (socket, mut peer) = pair().await?;
        let bytes: Vec<u8> = (0..16_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut seen = vec![0; bytes.len()];
        let (sent, read) = tokio::join!(socket.write(&bytes), peer.read_exact(&mut seen));
        assert_eq!((sent?, read?), ((), bytes.len()));
        assert!(seen == bytes);
        drop(peer);
        assert!(socket.write(&bytes).await.is_err());
        Ok(())
    }
}
