//! The program itself: started, spoken to over TCP and UDP, killed, started again.

mod hostile;
mod life;
mod operator;
mod server;
