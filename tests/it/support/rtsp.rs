//! A network camera for tests: an RTSP server on loopback that plays footage in real time.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use gstreamer::glib;
use gstreamer_rtsp_server as rtsp;
use gstreamer_rtsp_server::prelude::*;

/// A running server; dropping it closes its port and cuts every client off.
pub struct RtspServer {
    port: u16,
    main_loop: glib::MainLoop,
    thread: Option<JoinHandle<()>>,
}

impl RtspServer {
    /// Serves Motion JPEG footage in Matroska on a free port.
    pub fn start(footage: &Path) -> RtspServer {
        RtspServer::start_at(footage, 0)
    }

    /// As [`RtspServer::start`], on a given port: a camera that comes back.
    pub fn start_at(footage: &Path, port: u16) -> RtspServer {
        let media = format!(
            "( filesrc location=\"{}\" ! matroskademux ! rtpjpegpay name=pay0 pt=26 )",
            footage.display()
        );
        RtspServer::serve(media, port)
    }

    /// A camera that films a moving ball without end, 30 frames a second.
    pub fn start_live() -> RtspServer {
        let media = "( videotestsrc is-live=true pattern=ball \
                     ! video/x-raw,format=I420,width=160,height=120,framerate=30/1 ! jpegenc \
                     ! rtpjpegpay name=pay0 pt=26 )";
        RtspServer::serve(media.to_owned(), 0)
    }

    fn serve(media: String, port: u16) -> RtspServer {
        gstreamer::init().expect("GStreamer starts");
        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let (said, heard) = mpsc::channel();
        let thread_loop = main_loop.clone();
        let thread = std::thread::spawn(move || serve(&context, &thread_loop, &media, port, said));
        let port = heard.recv().expect("the server tells its port");
        RtspServer { port, main_loop, thread: Some(thread) }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the footage is.
    pub fn uri(&self) -> String {
        format!("rtsp://127.0.0.1:{}/line", self.port)
    }
}

impl Drop for RtspServer {
    fn drop(&mut self) {
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

fn serve(
    context: &glib::MainContext,
    main_loop: &glib::MainLoop,
    media: &str,
    port: u16,
    said: mpsc::Sender<u16>,
) {
    let serving = || {
        let server = rtsp::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&port.to_string());
        let factory = rtsp::RTSPMediaFactory::new();
        factory.set_launch(media);
        let mounts = server.mount_points().expect("a new server has mount points");
        mounts.add_factory("/line", factory);
        let source = server.attach(Some(context)).expect("the port is free");
        // Told from inside the running loop: one that is asked to quit before it runs never does.
        let bound = server.bound_port() as u16;
        let tell = move || {
            said.send(bound).expect("the test waits for the port");
            glib::ControlFlow::Break
        };
        glib::idle_source_new(None, glib::Priority::DEFAULT, tell).attach(Some(context));
        main_loop.run();
        // By the context: removing it by its number would look in the main thread's context.
        if let Some(source) = context.find_source_by_id(&source) {
            source.destroy();
        }
        server.client_filter(Some(&mut |_, _| rtsp::RTSPFilterResult::Remove));
        // The clients' connections are closed by what is still queued in the context.
        while context.pending() {
            context.iteration(false);
        }
    };
    context.with_thread_default(serving).expect("nobody else owns a new context");
}
